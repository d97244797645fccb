"""Detect objects with an exported model; needs onnxruntime, numpy and pillow.

python detect.py model.onnx image.jpg ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
height, width = about["size"]
names = [output.name for output in session.get_outputs()]
for path in sys.argv[2:]:
    image = Image.open(path)
    turned = image.getexif().get(0x0112, 1) >= 5
    size = image.size[::-1] if turned else image.size  # upright
    scale = min(width / size[0], height / size[1])
    fitted = tuple(max(1, round(side * scale)) for side in size)
    image.draft(None, fitted[::-1] if turned else fitted)  # decodes a large JPEG at half its size or less
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    canvas = Image.new("RGB", (width, height), tuple(about["fill"]))
    canvas.paste(on_white.resize(fitted, Image.Resampling.BILINEAR))
    outputs = session.run(names, {"image": np.asarray(canvas).transpose(2, 0, 1)[None]})
    found = {name: output[0] for name, output in zip(names, outputs, strict=True)}
    for index, label in enumerate(found["category"]):
        name, score = about["classes"][label - 1], float(found["score"][index])
        if label == 0 or score < about["threshold"][name]:
            continue
        odds = np.clip(score, 1e-5, 1 - 1e-5)
        calibrated = 1 / (1 + np.exp(-np.log(odds / (1 - odds)) / about["temperature"]))
        box = (found["location"][index] * np.tile(np.divide(size, fitted), 2)).clip(0, [*size, *size])
        row = {"image": path, "class": name, "score": round(calibrated, 5), "box": [round(side, 2) for side in box]}
        print(json.dumps(row | ({"state": about["states"][found["state"][index] - 1]} if about["states"] else {})))
