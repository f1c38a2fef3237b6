"""The comparison that stands on the page when it opens: made once by the server, shown to every visitor."""

from concurrent.futures import Future, ThreadPoolExecutor

from ovseg.demo.method_panel import at_first
from ovseg.demo.picture import of_scene
from ovseg.demo.run import Results, RunRequest, run
from ovseg.methods import suited_to
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.server.durations import Durations


class WorkedExample:
    """A comparison of the methods that need no preparation on one scene of the pocket world.

    Nothing is loaded before `begin`. Backbones that do not know the pocket world have none.
    """

    def __init__(self, models: Models, durations: Durations, scene: int) -> None:
        self._models, self._durations, self._scene = models, durations, scene
        self._future: Future[Results] | None = None

    def begin(self) -> None:
        """Start to make it, in a thread of its own, unless it is there already or cannot be made."""
        if self._future is None and self._models.checkpoint.classes:
            worker = ThreadPoolExecutor(1)
            self._future = worker.submit(self._make)
            worker.shutdown(wait=False)

    def results(self) -> Results | None:
        """The results, once they are there; None where it was not begun or could not be made."""
        if self._future is None or self._future.exception():
            return None
        return self._future.result()

    def _make(self) -> Results:
        models = self._models
        picture = of_scene(self._scene)
        request = RunRequest(picture, picture.words, "", "", tuple(suited_to(models, kind) for kind in at_first(models)), 0)
        return run(models, request, self._durations, silent, lambda part: None)
