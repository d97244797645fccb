// Detect objects with an exported model.
//
// detect model.onnx image.png ...
//
// stb_image ignores EXIF orientation and decodes JPEGs with small differences from Pillow; turn such photographs
// upright first. CMakeLists.txt says what to install.

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <string>
#include <vector>

using nlohmann::json;
using Bytes = std::vector<std::uint8_t>;

struct Image {
  Bytes rgb;
  int width, height;
};

// Transparency is composited onto white.
Image readImage(const std::string& path) {
  Image image;
  stbi_uc* rgba = stbi_load(path.c_str(), &image.width, &image.height, nullptr, 4);
  if (rgba == nullptr) throw std::runtime_error(path + ": " + stbi_failure_reason());
  for (int pixel = 0; pixel < image.width * image.height; pixel++) {
    const int alpha = rgba[4 * pixel + 3];
    for (int color = 0; color < 3; color++) {
      image.rgb.push_back(static_cast<std::uint8_t>((rgba[4 * pixel + color] * alpha + 255 * (255 - alpha) + 127) / 255));
    }
  }
  stbi_image_free(rgba);
  return image;
}

// Resample `lines` lines of RGB pixels from `before` to `after` pixels with a triangle filter, which antialiases.
// step: bytes between pixels of a line; lineIn, lineOut: bytes between lines. The result equals Pillow's.
Bytes resample(const Bytes& bytes, int lines, int before, int after, int step, int lineIn, int lineOut) {
  constexpr int precision = 22;  // bits of the weights
  Bytes result(bytes.size() / before * after);
  const double ratio = static_cast<double>(before) / after, support = std::max(ratio, 1.0);
  for (int pixel = 0; pixel < after; pixel++) {
    const double center = (pixel + 0.5) * ratio;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(before, static_cast<int>(center + support + 0.5));
    std::vector<double> weights;
    double total = 0;
    for (int k = first; k < last; k++) {
      weights.push_back(std::max(0.0, 1 - std::abs((k - center + 0.5) / support)));
      total += weights.back();
    }
    std::vector<int> scaled;
    for (const double weight : weights) scaled.push_back(static_cast<int>(weight / total * (1 << precision) + 0.5));
    for (int line = 0; line < lines; line++) {
      for (int color = 0; color < 3; color++) {
        int sum = 1 << (precision - 1);
        for (int k = first; k < last; k++) sum += bytes[line * lineIn + k * step + color] * scaled[k - first];
        result[line * lineOut + pixel * step + color] = static_cast<std::uint8_t>(std::min(255, sum >> precision));
      }
    }
  }
  return result;
}

// The image at the top left of the input, as planes of R, G and B; the rest is `fill`.
Bytes letterbox(const Image& image, int columns, int rows, const json& about) {
  const int height = about["size"][0], width = about["size"][1];
  const Bytes narrow = resample(image.rgb, image.height, image.width, columns, 3, 3 * image.width, 3 * columns);
  const Bytes small = resample(narrow, columns, image.height, rows, 3 * columns, 3, 3);
  Bytes planes;
  for (int color = 0; color < 3; color++) {
    for (int y = 0; y < height; y++) {
      for (int x = 0; x < width; x++) {
        const bool inside = y < rows && x < columns;
        planes.push_back(inside ? small[3 * (y * columns + x) + color] : about["fill"][color].get<std::uint8_t>());
      }
    }
  }
  return planes;
}

json readMetadata(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  json about;
  for (const char* key : {"size", "fill", "classes", "states", "threshold", "temperature"}) {
    const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
    about[key] = json::parse(text.get());
  }
  return about;
}

double calibrate(double score, double temperature) {
  const double clipped = std::clamp(score, 1e-5, 1 - 1e-5);
  return 1 / (1 + std::exp(-std::log(clipped / (1 - clipped)) / temperature));
}

double roundTo(double value, double steps) { return std::round(value * steps) / steps; }

void detect(Ort::Session& session, const json& about, const std::string& path) {
  const Image image = readImage(path);
  const int height = about["size"][0], width = about["size"][1];
  const double scale = std::min(static_cast<double>(width) / image.width, static_cast<double>(height) / image.height);
  const int columns = std::max(1, static_cast<int>(std::nearbyint(image.width * scale)));  // halves to even
  const int rows = std::max(1, static_cast<int>(std::nearbyint(image.height * scale)));
  Bytes pixels = letterbox(image, columns, rows, about);
  const std::array<std::int64_t, 4> shape{1, 3, height, width};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
  const auto input =
      Ort::Value::CreateTensor<std::uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const bool hasStates = !about["states"].empty();
  const std::array<const char*, 1> inputs{"image"};
  const std::array<const char*, 4> outputs{"location", "score", "category", "state"};
  auto found = session.Run(Ort::RunOptions{}, inputs.data(), &input, 1, outputs.data(), hasStates ? 4 : 3);
  const float* location = found[0].GetTensorData<float>();
  const float* score = found[1].GetTensorData<float>();
  const std::int64_t* category = found[2].GetTensorData<std::int64_t>();
  const auto count = found[2].GetTensorTypeAndShapeInfo().GetElementCount();
  for (std::size_t i = 0; i < count; i++) {
    if (category[i] == 0) continue;  // padding
    const std::string name = about["classes"][category[i] - 1];
    if (score[i] < about["threshold"][name].get<double>()) continue;
    json row{{"image", path}, {"class", name}, {"score", roundTo(calibrate(score[i], about["temperature"]), 1e5)}};
    for (int k = 0; k < 4; k++) {
      const double before = k % 2 ? image.height : image.width, after = k % 2 ? rows : columns;
      row["box"].push_back(roundTo(std::clamp(location[4 * i + k] * before / after, 0.0, before), 100));
    }
    if (hasStates) row["state"] = about["states"][found[3].GetTensorData<std::int64_t>()[i] - 1];
    std::cout << row.dump() << '\n';
  }
}

int main(int count, char** arguments) try {
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "detect");
  Ort::Session session(env, arguments[1], Ort::SessionOptions{});
  const json about = readMetadata(session);
  for (int k = 2; k < count; k++) detect(session, about, arguments[k]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
