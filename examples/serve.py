"""Serve an exported run: PROGRAM=program.pt2 uvicorn examples.serve:app; POST a video file."""

import json
import os
import tempfile
from pathlib import Path

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bgan_video.video import timed
from bgan_video.video.clips import uniform_clips
from bgan_video.video.reader import open_video
from bgan_video.video.times import frame_times

about = {"bgan_video.json": ""}
program = torch.export.load(os.environ["PROGRAM"], extra_files=about).module()
about = json.loads(about["bgan_video.json"])


def middle(file: str, length: int) -> list[int]:
    """The frames of the clip in a video's middle, cut as the run's clips were."""
    frames, stride, fps = about["num_frames"], about["stride"], about.get("fps")
    if fps is None:
        return uniform_clips(length, frames, stride, 1, "loop")[0]
    return timed.uniform_clips(frame_times(Path(file), length, "auto"), frames, fps, 1, "loop")[0]


async def classify(request: Request) -> JSONResponse:
    """Class probabilities, mutual information (and p(fake)) of the clip in the video's middle."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(await request.body())
        file.flush()
        clips = []
        for wanted in about["inputs"]:
            with open_video(file.name, size=wanted["short_side"]) as video:
                clips.append(torch.from_numpy(video.read(middle(file.name, len(video))))[None])
    with torch.no_grad():
        said = {name: value[0].tolist() for name, value in program(*clips).items()}
    return JSONResponse(said | {"classes": about["classes"]})


app = Starlette(routes=[Route("/", classify, methods=["POST"])])
