"""The comparison that stands on the page when it opens: made once by the server, shown to every visitor."""

import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

from ovseg.demo.inside_tab import Looked, look_at
from ovseg.demo.looking import first_views
from ovseg.demo.picture import of_scene
from ovseg.demo.run import Results, drawn, run_at_first
from ovseg.methods import at_first, suited_to
from ovseg.models import Models
from ovseg.progress import silent
from ovseg.server.durations import Durations
from ovseg.words.nouns import tagger


class WorkedExample:
    """A comparison of the methods that need no preparation on one scene of the pocket world.

    Nothing is loaded before `begin`. Backbones that do not know the pocket world have none.
    """

    def __init__(self, models: Models, durations: Durations, scene: int) -> None:
        self._models, self._durations, self._scene = models, durations, scene
        self._future: Future[Results] | None = None
        self._lock, self._looked = threading.Lock(), None

    def begin(self) -> None:
        """Start to make it, in a thread of its own, unless it is there already or cannot be made."""
        if self._future is None and self._models.checkpoint.classes:
            worker = ThreadPoolExecutor(1)
            self._future = worker.submit(self._make)
            worker.submit(lambda: self.views)
            if self._models.takes_turns:
                worker.submit(self.looked)  # when a visitor asks for it, the network may have left
            worker.shutdown(wait=False)

    def results(self) -> Results | None:
        """The results, once they are there; None where it was not begun or could not be made."""
        if self._future is None or self._future.exception():
            return None
        return self._future.result()

    @cached_property
    def views(self) -> tuple[dict[str, Any], tuple[Any, ...]] | None:
        """The board and what stands below it, the same for every visitor; None where there are no results."""
        results = self.results()
        return results and (drawn(results, uuid.uuid4().hex), first_views(results))

    def looked(self) -> Looked | None:
        """What lies inside the same picture, made when it is first asked for; None where there are no results."""
        results = self.results()
        if results is None:
            return None
        with self._lock:
            if self._looked is None:
                self._looked = look_at(self._models, results.picture, silent)
            return self._looked

    def _make(self) -> Results:
        models = self._models
        tagger()  # this and the networks before the methods, so that the seconds of the first run are its own
        for kind in at_first(models):
            for load in suited_to(models, kind).helpers(models).values():
                load()
        return run_at_first(models, of_scene(self._scene), self._durations, silent)
