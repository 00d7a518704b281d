#!/usr/bin/env python3
"""A stand-in for the `fleet` command: notes how it was called and answers from a script.

The script is a JSON file: {"calls": [], "answers": [{"out": …, "lines": […], "err": {…}, "code": 0, "hang": false}]}.
"""

import json
import os
import sys
import time

path = os.environ["FAKE_FLEET"]
with open(path, encoding="utf-8") as file:
    script = json.load(file)
answer = script["answers"].pop(0)
script["calls"].append(sys.argv[1:])
with open(path + ".new", "w", encoding="utf-8") as file:
    json.dump(script, file)
os.replace(path + ".new", path)

if "out" in answer:
    print(json.dumps(answer["out"], indent=2))
for line in answer.get("lines", []):
    print(json.dumps(line), flush=True)
if "err" in answer:
    print(json.dumps({"error": answer["err"]}), file=sys.stderr)
while answer.get("hang"):
    time.sleep(60)
sys.exit(answer.get("code", 0))
