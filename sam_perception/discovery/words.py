"""Objects that were asked for in words: searched for until they are there, and again when they are LOST."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sam_perception.config import GeometryConfig, WordsConfig
from sam_perception.detections import Detection
from sam_perception.discovery.association import Candidate, overlapped, recognised
from sam_perception.discovery.hands import Hands
from sam_perception.discovery.looking import Looker
from sam_perception.discovery.memory import ObjectMemory, Seen
from sam_perception.discovery.models import WordDetector
from sam_perception.discovery.names import Names
from sam_perception.errors import PromptError
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import TextPrompt
from sam_perception.scene import ObjectState

_SAME_IOU = 0.5  # with a box that overlaps a tracked object by this, that object is meant


@dataclass(eq=False)
class _Query:
    prompt: TextPrompt
    open: bool = True  # nothing was found for it yet
    ids: tuple[int, ...] = ()  # the objects that were found for it, without those removed since
    next_ns: int = -1  # stamp from which it may be searched for again
    told: bool = False  # that it was not found


class WordSearch:
    """Keeps what was asked for, and asks the detector about it.

    Args:
        model: the detector.
        memory: of what is tracked.
        names: for ids of further instances.
        hands: point the tracker at what is found.
    """

    def __init__(self, model: WordDetector, memory: ObjectMemory, names: Names, hands: Hands) -> None:
        self._model, self._memory, self._names, self._hands = model, memory, names, hands
        self._queries: dict[int, _Query] = {}  # by the id that was given with the words
        self._looker: Looker[tuple[_Query, ...]] = Looker()
        self._refused: dict[str, str] = {}  # texts that the model does not read, and why; until its answer is taken
        self.go_to_background = self._looker.go_to_background

    @property
    def waiting(self) -> tuple[int, ...]:
        """Ids whose words were not found yet."""
        return tuple(i for i, query in self._queries.items() if query.open)

    def ask(self, prompt: TextPrompt) -> None:
        """Search for this from the next frame on; a query of the same id is replaced."""
        self._queries[prompt.object_id] = _Query(prompt)

    def search_new(self, frame: RgbdFrame, settings: WordsConfig, geometry: GeometryConfig) -> float:
        """Before a frame is tracked: look for what was not found yet. Milliseconds of the model's answers."""
        return self._search(frame, lambda q: q.open and (q.prompt.stamp_ns or 0) <= frame.stamp_ns, settings, geometry)

    def search_lost(self, frame: RgbdFrame, settings: WordsConfig, geometry: GeometryConfig) -> float:
        """After it was tracked: look for what is LOST. Milliseconds of the model's answers."""
        return self._search(frame, lambda q: bool(self._lost(q)), settings, geometry)

    def rename(self, object_id: int, label: str) -> bool:
        """Give what waits under this id another name; whether something does."""
        query = self._queries.get(object_id)
        if query is not None:
            query.prompt = replace(query.prompt, label=label)
        return query is not None and query.open

    def forget(self, object_id: int) -> bool:
        """Search for this no longer; whether it was still waited for."""
        query = self._queries.get(object_id)
        if query is not None and query.open:
            del self._queries[object_id]
            return True
        for query in self._queries.values():
            query.ids = tuple(i for i in query.ids if i != object_id)
        self._queries = {i: query for i, query in self._queries.items() if query.open or query.ids}
        return False

    def drop(self, object_id: int) -> None:
        """Search no longer for what was not found yet under this id."""
        if object_id in self.waiting:
            del self._queries[object_id]

    def forget_frames(self) -> None:
        """Times of earlier searches mean nothing any more, after the stream has jumped."""
        self._looker.drop()
        for query in self._queries.values():
            query.next_ns = -1

    def clear(self) -> None:
        """Search for nothing."""
        self._looker.drop()
        self._queries.clear()

    # ------------------------------------------------------------------ how it is done

    def _lost(self, query: _Query) -> list[Seen]:
        known = (self._memory.get(object_id) for object_id in query.ids)
        return [seen for seen in known if seen is not None and seen.state is ObjectState.LOST]

    def _search(
        self, frame: RgbdFrame, wanted: Callable[[_Query], bool], settings: WordsConfig, geometry: GeometryConfig
    ) -> float:
        took_ms = self._take_answer(settings, geometry)
        due = [query for query in self._queries.values() if query.next_ns <= frame.stamp_ns and wanted(query)]
        if due and not self._looker.busy:
            for query in due:
                query.next_ns = frame.stamp_ns + round(settings.search_period_s * 1e9)
            texts = tuple(dict.fromkeys(query.prompt.text for query in due))
            self._looker.look(tuple(due), frame, lambda: self._find(frame, texts, settings))
            took_ms += self._take_answer(settings, geometry)
        return took_ms

    def _find(self, frame: RgbdFrame, texts: Sequence[str], settings: WordsConfig) -> list[Detection]:
        def find(some: Sequence[str]) -> list[Detection]:
            return self._model.find(
                frame.rgb,
                some,
                box_threshold=settings.box_threshold,
                text_threshold=settings.text_threshold,
                nms_iou=settings.nms_iou,
            )

        try:
            return find(texts)
        except PromptError:  # too long together, or one of them alone
            found = []
            for text in texts:
                try:
                    found += find([text])
                except PromptError as error:
                    self._refused[text] = str(error)
            return found

    def _take_answer(self, settings: WordsConfig, geometry: GeometryConfig) -> float:
        answer = self._looker.collect()
        if answer is None:
            return 0.0
        refused, self._refused = self._refused, {}
        for query in answer.subject:
            if self._queries.get(query.prompt.object_id) is not query:
                continue  # it was removed while the model looked
            if query.prompt.text in refused:
                self._hands.notes.append(f"object {query.prompt.object_id}: {refused[query.prompt.text]}")
                del self._queries[query.prompt.object_id]
                continue
            found = [d for d in answer.detections if d.label == query.prompt.text]
            lost = self._lost(query)
            candidates = self._hands.candidates(found, answer.frame, geometry, looks=bool(lost))
            free = self._not_tracked(query, candidates, answer.frame)
            if query.open:
                self._begin(query, free, answer.frame, settings)
            elif lost:
                for number, row in recognised(free, lost, answer.frame.stamp_ns, settings).items():
                    self._hands.recover(lost[row], free[number].detection, answer.frame)
        return answer.took_ms

    def _not_tracked(self, query: _Query, candidates: Iterable[Candidate], frame: RgbdFrame) -> list[Candidate]:
        """The candidates that are no object in sight; the user hears of one that is what an open query asks for."""
        view = self._memory.view(frame.stamp_ns) or ()
        free = []
        for candidate in candidates:
            same = overlapped(candidate, view, _SAME_IOU)
            if same is None:
                free.append(candidate)
            elif query.open and not query.told:
                query.told = True
                self._hands.notes.append(
                    f"what looks like {query.prompt.text!r} is object {same.object_id} already; "
                    "another one is looked for"
                )
        return free

    def _begin(self, query: _Query, candidates: Sequence[Candidate], frame: RgbdFrame, settings: WordsConfig) -> None:
        prompt = query.prompt
        for candidate in candidates[: prompt.max_instances]:
            object_id = self._names.new_id(self._hands.taken) if query.ids else prompt.object_id
            if not self._hands.begin(object_id, candidate.detection, prompt.label, frame):
                break
            query.ids = (*query.ids, object_id)
        query.open = not query.ids
        if query.open and not query.told:
            query.told = True
            self._hands.notes.append(
                f"nothing like {prompt.text!r} is seen with a score of {settings.box_threshold} or more; it is "
                f"looked for every {settings.search_period_s} s until object {prompt.object_id} is removed"
            )
