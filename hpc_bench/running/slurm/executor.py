"""submitit's Slurm executor, with options on sbatch's command line and an answer that wrappers may adorn."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedSubmissionError, JobPaths
from submitit.slurm.slurm import SlurmExecutor

from hpc_bench.running.slurm.commands import read_job, sbatch_command

__all__ = ["ArrayExecutor"]


class ArrayExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit has no types here
    """Submits one array, or one job."""

    cluster: str | None = None
    """Where to; None: sbatch's own choice."""
    given_cluster = ""
    """What sbatch said of where the job went."""

    @classmethod
    def affinity(cls) -> int:
        """Usable everywhere, also where a script is only shown; submitit would refuse without srun."""
        return 2

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return [*sbatch_command(submission_file_path.read_text(), self.cluster), str(submission_file_path)]

    def _get_job_id_from_submission_command(self, string: str | bytes) -> str:
        text = string if isinstance(string, str) else string.decode(errors="replace")
        try:
            job, self.given_cluster = read_job(text)
        except ValueError as error:
            name = self.parameters["job_name"]
            raise FailedSubmissionError(
                f"{error}; a job may exist all the same: squeue --me --name={name} shows it, scancel --me "
                f"--name={name} ends it"
            ) from error
        return job

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Any]:
        """submitit's own, which makes an executor of its own class for an array."""
        if len(delayed_submissions) == 1:
            jobs: list[Any] = super()._internal_process_submissions(delayed_submissions)
            return jobs
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        pickles = []
        for delayed in delayed_submissions:
            pickles.append(folder / f"{uuid.uuid4().hex}.pkl")
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(pickles[-1])
        self.parameters["map_count"] = len(pickles)
        first = self._submit_command(self._submitit_command_str)
        jobs = [
            self.job_class(folder=self.folder, job_id=f"{first.job_id}_{task}", tasks=[0])
            for task in range(len(pickles))
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs
