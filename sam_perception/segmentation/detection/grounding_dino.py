"""Grounding DINO (Liu et al., arXiv 2303.05499): boxes for phrases.

The model reads one text with all phrases, "a red mug. a book.", and says for each box how well each of
the text's tokens fits it. transformers' processor turns the tokens above a threshold back into words,
which can be half of a phrase or two phrases mixed; here each box goes to the phrase that fits it best.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.detections import Detection, detections_of, suppressed
from sam_perception.errors import PromptError
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.hub import load_image_processor, load_tokenizer, load_weights
from sam_perception.segmentation.pictures.pictures import corners_px

# Say nothing about what is to be found, and fit every box a little.
_ARTICLES = frozenset({"a", "an", "the"})


class GroundingDino:
    """A `WordDetector`.

    Args:
        model: transformers' `GroundingDinoForObjectDetection`.
        image_processor: its preprocessing.
        tokenizer: its text's.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any) -> None:
        self._model, self._images, self._tokenizer = model, image_processor, tokenizer
        self._most = int(model.config.max_text_len)

    @classmethod
    def load(cls, folder: Path, device: str) -> GroundingDino:
        """Of a checkpoint's folder; errors as `open_vocabulary.load_detector` has them."""
        from transformers import GroundingDinoForObjectDetection

        images, tokenizer = load_image_processor(folder), load_tokenizer(folder)
        return cls(load_weights(GroundingDinoForObjectDetection, folder, device), images, tokenizer)

    @inferring()
    def find(
        self,
        rgb: NDArray[np.uint8],
        texts: Sequence[str],
        *,
        box_threshold: float = 0.3,
        text_threshold: float = 0.25,
        nms_iou: float = 0.5,
    ) -> list[Detection]:
        """What a picture (H, W, 3) RGB shows of each of the texts, surest first.

        A box is taken for a phrase if one of the phrase's tokens fits it with `box_threshold`, and
        its tokens but for articles fit it with `text_threshold` on average: a blue mug is no "red mug".

        Raises:
            PromptError: the texts are longer together than the model reads.
        """
        if not texts:
            return []
        ids, spans = self.tokenised(texts)
        device = self._model.device
        tokens = torch.tensor([ids], device=device)
        pictures = {k: v.to(device) for k, v in self._images(images=[rgb], return_tensors="pt").items()}
        output = self._model(**pictures, input_ids=tokens, attention_mask=torch.ones_like(tokens))
        probabilities = output.logits[0].float().sigmoid().cpu().numpy()
        boxes = corners_px(output.pred_boxes[0], rgb.shape[1], rgb.shape[0])
        rows, scores, labels = assigned(probabilities, spans, box_threshold, text_threshold)
        found = detections_of([texts[i] for i in labels], scores, boxes[rows], rgb.shape[1], rgb.shape[0])
        return suppressed(found, nms_iou)

    def tokenised(self, texts: Sequence[str]) -> tuple[list[int], list[NDArray[np.intp]]]:
        """The ids of one text with all phrases, and for each phrase the places of its own tokens.

        Raises:
            PromptError: too long.
        """
        tokenizer = self._tokenizer
        stop = tokenizer.convert_tokens_to_ids(".")
        ids, spans = [tokenizer.cls_token_id], []
        for text in texts:
            words = text.lower().replace(".", " ").split()
            pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
            told = [word not in _ARTICLES or len(words) == 1 for word in words]
            places: list[int] = []
            for piece, counts in zip(pieces, told, strict=True):
                if counts:
                    places += range(len(ids), len(ids) + len(piece))
                ids += piece
            spans.append(np.array(places, np.intp))
            ids.append(stop)
        ids.append(tokenizer.sep_token_id)
        if len(ids) > self._most:
            raise PromptError(
                f"the words {', '.join(map(repr, texts))} are {len(ids)} tokens, the model reads {self._most}: "
                "describe things shorter"
            )
        return ids, spans


def assigned(
    probabilities: NDArray[np.float32],
    spans: Sequence[NDArray[np.intp]],
    box_threshold: float,
    text_threshold: float,
) -> tuple[NDArray[np.intp], NDArray[np.float32], list[int]]:
    """Which boxes fit which phrase.

    Args:
        probabilities: (Q, T) of each box and token.
        spans: for each phrase the places of its tokens.
        box_threshold: for the best of a phrase's tokens.
        text_threshold: for their mean.

    Returns:
        (N,) rows of boxes; (N,) scores, of the best token; N numbers of phrases.
    """
    nothing = np.zeros(len(probabilities), probabilities.dtype)
    best = np.stack([probabilities[:, span].max(axis=1) if len(span) else nothing for span in spans])
    mean = np.stack([probabilities[:, span].mean(axis=1) if len(span) else nothing for span in spans])
    fits = (best >= box_threshold) & (mean >= text_threshold)
    # By the mean: "red mug" and "blue mug" share their best token.
    choice = np.where(fits, mean, -1.0).argmax(axis=0)
    rows = np.flatnonzero(fits.any(axis=0))
    return rows, best[choice[rows], rows].astype(np.float32), choice[rows].tolist()
