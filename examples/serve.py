"""Serve an exported run: PROGRAM=program.pt2 uvicorn examples.serve:app; POST a video file."""

import json
import os
import tempfile

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bgan_video.video.clips import uniform_clips
from bgan_video.video.reader import open_video

about = {"bgan_video.json": ""}
program = torch.export.load(os.environ["PROGRAM"], extra_files=about).module()
about = json.loads(about["bgan_video.json"])


async def classify(request: Request) -> JSONResponse:
    """Class probabilities, mutual information (and p(fake)) of the clip in the video's middle."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(await request.body())
        file.flush()
        clips = []
        for wanted in about["inputs"]:
            with open_video(file.name, size=wanted["short_side"]) as video:
                shape = (len(video), about["num_frames"], about["stride"], 1, "loop")
                clips.append(torch.from_numpy(video.read(uniform_clips(*shape)[0]))[None])
    with torch.no_grad():
        said = {name: value[0].tolist() for name, value in program(*clips).items()}
    return JSONResponse(said | {"classes": about["classes"]})


app = Starlette(routes=[Route("/", classify, methods=["POST"])])
