"""Draws charts for another process: a request per line on stdin, an answer per line on stdout.

A request has the arguments of `vl_convert.vegalite_to_png`, or is null for the library that draws charts in HTML pages.
An answer is base64 or an error. Started by `chart_process`, as a program of its own: it imports nothing else.

    python stages/detector/plotting/chart_worker.py FOLDER_OF_FONTS
"""

from __future__ import annotations

import base64
import json
import signal
import sys


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of stdin ends this process, so it never outlives its parent
    import vl_convert  # only now, since it takes a while, in which Ctrl-C may be pressed

    vl_convert.register_font_directory(sys.argv[1])
    # These two take seconds, which pass before anybody asks: the first chart sets up what draws the others.
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").encode()
    vl_convert.vegalite_to_png({"data": {"values": [{"x": 0}]}, "mark": "point", "encoding": {"x": {"field": "x"}}})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            result = library if request is None else vl_convert.vegalite_to_png(**request)
            answer = {"result": base64.b64encode(result).decode()}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
