"""Objects that detectors of fixed classes find: each detection is an object that is known, or a new one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sam_perception.config import DetectorConfig, PerceptionConfig
from sam_perception.detections import Detection, names_of, suppressed
from sam_perception.discovery.association import Candidate, associate, recognised
from sam_perception.discovery.hands import Hands
from sam_perception.discovery.looking import Looker
from sam_perception.discovery.memory import ObjectMemory
from sam_perception.discovery.models import ObjectDetector
from sam_perception.discovery.names import Names
from sam_perception.frame import RgbdFrame

_QUEUE = 16  # detections of as many pictures wait for their frames
_PATIENCE_FRAMES = 30  # for the frame of detections that came before it


class DetectionIntake:
    """Takes detections, from its own model and from elsewhere, and makes objects of them.

    Args:
        model: looks at frames by itself; None: detections come from elsewhere only.
        memory: of what is tracked.
        names: given by detectors.
        hands: point the tracker at what is new.
    """

    def __init__(self, model: ObjectDetector | None, memory: ObjectMemory, names: Names, hands: Hands) -> None:
        self._model, self._memory, self._names, self._hands = model, memory, names, hands
        self._given: deque[tuple[tuple[Detection, ...], int, int]] = deque(maxlen=_QUEUE)  # stamp, frames waited
        self._looker: Looker[None] = Looker()
        self._next_ns = -1
        self.go_to_background = self._looker.go_to_background

    def take(self, detections: Sequence[Detection], stamp_ns: int) -> None:
        """Detections in the picture of this stamp; 0: the newest."""
        self._given.append((tuple(detections), stamp_ns, 0))

    def look(self, frame: RgbdFrame, config: PerceptionConfig) -> float:
        """Ask the model if it is time, and take its answer if it is there. Milliseconds of its answers."""
        took_ms = self._take_answer(config)
        model, settings = self._model, config.detector
        if model is not None and not self._looker.busy and frame.stamp_ns >= self._next_ns:
            self._next_ns = frame.stamp_ns + round(1e9 / settings.rate_hz)
            self._looker.look(
                None,
                frame,
                lambda: model.detect(frame.rgb, threshold=settings.threshold, nms_iou=settings.nms_iou),
            )
            took_ms += self._take_answer(config)
        return took_ms

    def take_given(self, frame: RgbdFrame, config: PerceptionConfig) -> None:
        """Work off detections from elsewhere whose frame is there; `frame` is the newest."""
        for _ in range(len(self._given)):  # others may put more in meanwhile
            detections, stamp_ns, waited = self._given.popleft()
            if stamp_ns > frame.stamp_ns and waited < _PATIENCE_FRAMES:
                self._given.append((detections, stamp_ns, waited + 1))
                continue
            self._admit(detections, frame, stamp_ns or frame.stamp_ns, config)

    def forget_frames(self) -> None:
        """Stamps mean nothing any more, after the stream has jumped."""
        self._given.clear()
        self._looker.drop()
        self._next_ns = -1

    # ------------------------------------------------------------------ how it is done

    def _take_answer(self, config: PerceptionConfig) -> float:
        answer = self._looker.collect()
        if answer is None:
            return 0.0
        self._admit(answer.detections, answer.frame, answer.frame.stamp_ns, config)
        return answer.took_ms

    def _admit(
        self, detections: Sequence[Detection], frame: RgbdFrame, stamp_ns: int, config: PerceptionConfig
    ) -> None:
        view = self._memory.view(stamp_ns)
        if view is None:
            age_s = (frame.stamp_ns - stamp_ns) * 1e-9
            self._hands.notes.append(
                f"{len(detections)} detections are {age_s:.2f} s old, older than what is remembered: they are not "
                "used; detections must carry their image's stamp, and come within about a second"
            )
            return
        chosen = chosen_of(detections, frame.width, frame.height, config.detector)
        hidden = [s for s in self._memory.hidden if s.label in {d.label for d in chosen}]
        # Depth and features of this frame stand in for those of the detections' own, at most a second before.
        candidates = self._hands.candidates(chosen, frame, config.geometry, looks=bool(hidden))
        pairs = associate(candidates, view, config.detector)
        for number, row in pairs.items():
            self._name(view[row].object_id, view[row].label, candidates[number].detection)
        rest = [candidate for number, candidate in enumerate(candidates) if number not in pairs]
        for candidate in self._not_recovered(rest, frame, config):
            if not self._begin(candidate, frame):
                break

    def _name(self, object_id: int, label: str, detection: Detection) -> None:
        """Take over what the detector calls an object, unless a person named it or it was surer of another name."""
        if not self._names.may_change(object_id, label):
            return
        surer = label == detection.label or detection.score > self._names.score(object_id, label)
        if surer and object_id in self._hands.taken:
            self._hands.rename(object_id, detection.label, detection.score)

    def _not_recovered(
        self, candidates: Sequence[Candidate], frame: RgbdFrame, config: PerceptionConfig
    ) -> list[Candidate]:
        """Point at what was out of sight and is there again; the candidates that are nothing of that kind."""
        new = []
        for label in dict.fromkeys(c.detection.label for c in candidates):
            alike = [c for c in candidates if c.detection.label == label]
            lost = [seen for seen in self._memory.hidden if seen.label == label]
            found = recognised(alike, lost, frame.stamp_ns, config.words)
            for number, row in found.items():
                self._hands.recover(lost[row], alike[number].detection, frame)
            new += [c for number, c in enumerate(alike) if number not in found]
        return new

    def _begin(self, candidate: Candidate, frame: RgbdFrame) -> bool:
        detection = candidate.detection
        object_id = self._names.new_id(self._hands.taken)
        return self._hands.begin(object_id, detection, detection.label, frame)


def chosen_of(detections: Sequence[Detection], width: int, height: int, settings: DetectorConfig) -> list[Detection]:
    """Detections on the picture that are sure enough, of the classes that are wanted, each thing once."""
    wanted = names_of(settings.classes)
    clipped = (d.clipped(width, height) for d in detections if d.score >= settings.threshold)
    return suppressed(
        [d for d in clipped if d is not None and (not wanted or d.label.lower() in wanted)], settings.nms_iou
    )
