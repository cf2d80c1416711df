"""What the commands do, for programs: `train(config)`, `resume(folder)`, `load(folder)`.

By subject in `data`, `labels`, `runs`, `studies` and `training`; the names to use are all here.
"""

from bgan_video.api.data import check_data, features, prepare, verify, verify_features
from bgan_video.api.labels import answers, label, label_first, suggest, suggest_first
from bgan_video.api.runs import export, predict, sample, show_beside
from bgan_video.api.studies import study, study_report, study_states
from bgan_video.api.training import Result, resume, train, train_or_resume, within
from bgan_video.prediction.generated import chooser, generate, measure
from bgan_video.prediction.trained import TrainedRun, load
from bgan_video.reports.text import comparison, recall_table
from bgan_video.training.plan import plan

__all__ = [
    "Result",
    "TrainedRun",
    "answers",
    "check_data",
    "chooser",
    "comparison",
    "export",
    "features",
    "generate",
    "label",
    "label_first",
    "load",
    "measure",
    "plan",
    "predict",
    "prepare",
    "recall_table",
    "resume",
    "sample",
    "show_beside",
    "study",
    "study_report",
    "study_states",
    "suggest",
    "suggest_first",
    "train",
    "train_or_resume",
    "verify",
    "verify_features",
    "within",
]
