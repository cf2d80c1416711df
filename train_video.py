"""Train a Bayesian GAN on videos: arguments → config → run. `bgan-video train` is the same."""

import sys

from bgan_video.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
