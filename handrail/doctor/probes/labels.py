"""Probe A: which tokens are read, which are learned. Looks at the first rows of the run as the loss sees them."""

import re
from collections import Counter
from itertools import takewhile

import torch

from ..findings import Finding
from ..token_rows import OTHER, answers_of, rows_of
from .reading import future

LOOKED_AT = 24  # updates
USER = re.compile(
    r"<\|im_start\|>user|<\|user\|>|\[INST\]|<start_of_turn>user|<\|start_header_id\|>user|#+ ?(Instruction|Question|Input)|\b(User|Human|Question|Customer|Client|Patient|Student|Q):",
    re.I,
)
REPLY = re.compile(
    r"<\|im_start\|>assistant|<\|assistant\|>|\[/INST\]|<start_of_turn>model|assistant<\|end_header_id\|>|#+ ?(Response|Answer|Output)|\b(Assistant|Answer|Agent|Support|Doctor|Teacher|Bot|AI|A):",
    re.I,
)


class Labels:
    """Counts, over the first updates, what is trained on; speaks when it is the wrong thing."""

    def __init__(self, doctor):
        self.doctor, self.rows, self.seen, self.longest, self.words, self.writing, self.kept = (
            doctor,
            0,
            0,
            0,
            None,
            0,
            [],
        )
        self.count = dict.fromkeys(
            (
                "trained",
                "empty",
                "full_empty",
                "padding",
                "pad_rows",
                "bos_twice",
                "prompted",
                "short",
                "ended",
                "end_read",
                "partly",
                "unended_full",
                "left_open",
                "stops",
                "stops_at_end",
            ),
            0,
        )

    def resized(self, before, after):
        self.words = before if after > before else self.words

    def lost(self, seen):
        yield from self.vocabulary(seen)

    def passed(self, seen):
        yield from self.vocabulary(seen)

    def vocabulary(self, seen):
        """Ids that the model has no row for, before the model falls over them (or, on a GPU, reads past the end)."""
        tokenizer, ids = self.doctor.used, seen.ids
        table = table_of(seen.module)
        if (
            tokenizer is None
            or ids is None
            or table is None
            or not hasattr(table, "weight")
            or self.seen > 2
        ):
            return
        rows, words = table.weight.size(0), len(tokenizer)
        if any(
            len(known) == rows for known in self.doctor.tokenizers
        ):  # one of two, as in a translation
            return
        if rows > 1.2 * words + 128 and self.doctor.updates == 0:
            yield Finding(
                "vocabulary-mismatch",
                "warning",
                f"The model has {rows:,} words, the tokenizer only {words:,}: most of its vocabulary is never used.",
                f"{type(table).__name__} of {rows:,} rows; the tokenizer is {type(tokenizer).__name__}",
                [
                    ("the configuration's default vocabulary size was kept", 0.8),
                    ("model and tokenizer belong to different models", 0.2),
                ],
                "vocab_size=len(tokenizer) in the model's config",
                0,
            )
        if words > rows:
            added = [word for word, i in tokenizer.get_added_vocab().items() if i >= rows]
            name = "new-tokens-untrained" if added else "vocabulary-mismatch"
            yield Finding(
                name,
                "certain",
                f"The tokenizer has {words:,} tokens, the model's embedding only {rows:,} rows.",
                f"ids from {rows:,} on have no row"
                + (f": {added[:5]}" if added else f"; the tokenizer is {type(tokenizer).__name__}"),
                [
                    (
                        "tokens were added to the tokenizer and the embedding was not resized"
                        if added
                        else "the model was made with another vocabulary size",
                        0.9,
                    ),
                    ("model and tokenizer belong to different models", 0.1),
                ],
                "model.resize_token_embeddings(len(tokenizer)), and let the embedding train"
                if added
                else "vocab_size=len(tokenizer) in the model's config",
                0,
            )

    def after_step(self, optimizer):
        doctor = self.doctor
        if doctor.updates > LOOKED_AT:
            return
        for seen in doctor.now.passes:
            answers = answers_of(seen)
            rows = answers or rows_of(seen)
            if rows is None:
                continue
            self.seen += 1
            yield from self.misplaced(seen)
            if answers:
                yield from self.answer_read(answers, seen.inputs.get("decoder_input_ids"))
            else:
                yield from self.shifted(rows, seen)
                yield from self.frozen_words(rows)
            if rows.trained is not None and rows.ahead != OTHER:
                self.add(rows)
        if self.rows:
            yield from self.judge()

    def misplaced(self, seen):
        """A mask that keeps the padding and hides text: upside down, or at the other end."""
        ids, keep = seen.ids.cpu(), seen.inputs.get("attention_mask")
        if seen.hidden is not None and seen.hidden.shape == ids.shape:
            keep = ~seen.hidden if seen.hidden.dtype is torch.bool else seen.hidden == 0
        if (
            not isinstance(keep, torch.Tensor)
            or keep.shape != ids.shape
            or keep.is_floating_point()
        ):
            return
        keep = keep.cpu().bool()
        pad = torch.cat([ids[:, 0], ids[:, -1]]).mode().values  # what most rows begin or end with
        pads = ids == pad
        counts, hidden = pads.sum(1), ids[~keep & ~pads]
        inside = (
            pads & ~pads.cummin(1).values & ~pads.flip(1).cummin(1).values.flip(1)
        )  # it also stands in the text
        if (
            inside.any()
            or counts.max() < 3
            or len(counts.unique()) < 2
            or not len(hidden)
            or (keep & pads).sum() < 0.5 * pads.sum()
        ):
            return
        if len(hidden.unique()) >= 5 and len(hidden) >= 0.3 * pads.sum():
            yield Finding(
                "mask-misplaced",
                "certain",
                "The mask keeps padding and hides text: attention looks at what only fills the rows, and passes over what they say.",
                f"of {int(pads.sum())} places with {self.doctor.decode([pad])} at an end of the rows {int((keep & pads).sum())} are kept; of {int((~pads).sum())} other places {len(hidden)} are hidden",
                [
                    (
                        'it is upside down: True means "pass over this" for torch\'s key_padding_mask, and "read this" for Transformers\' attention_mask',
                        0.6,
                    ),
                    ("rows are padded at one end, and the mask was made for the other", 0.4),
                ],
                "mask = ids != pad for attention_mask, ids == pad for key_padding_mask, from the very rows that are read",
                self.doctor.updates,
            )

    def answer_read(self, answers, read):
        """An encoder-decoder makes what its decoder reads from the labels, one place later; here somebody gave it himself."""
        if (
            isinstance(read, torch.Tensor)
            and read.shape == answers.ids.shape
            and answers.real.sum() >= 8
            and bool((read.cpu() == answers.ids)[answers.real].all())
        ):
            yield Finding(
                "labels-not-shifted",
                "certain",
                "The decoder reads the very tokens that it has to write: it learns to repeat them.",
                "decoder_input_ids equal labels, place by place",
                [("decoder_input_ids are the labels, not shifted by one", 0.95)],
                "give labels only: the model shifts them for its decoder (or call model.prepare_decoder_input_ids_from_labels)",
                self.doctor.updates,
            )

    def shifted(self, rows, seen):
        update = self.doctor.updates
        if rows.ahead in (None, OTHER, 1) or rows.certainty < 0.3:
            return
        if rows.ahead == 2:
            yield Finding(
                "labels-shifted-twice",
                "certain",
                "The targets are two tokens ahead: every token is asked for the one after the next.",
                f"at {rows.certainty:.0%} more places the target equals the token two places on than the next one",
                [
                    ("labels were shifted by hand, and the model shifts them again", 0.95),
                    ("the data set is shifted and the loss shifts again", 0.05),
                ],
                "give the model labels = input_ids, unshifted; Transformers' models shift inside",
                update,
            )
        elif (
            rows.ahead == 0 and not future(seen, rows)[0]
        ):  # one that may read it all is meant to give it back: an autoencoder
            yield Finding(
                "labels-not-shifted",
                "certain",
                "The target is the very token that is being read: the model learns to repeat its input.",
                "the targets equal the inputs, place by place",
                [("the shift by one is missing", 0.95)],
                "compare logits[:, :-1] with ids[:, 1:], or let a Transformers model compute the loss",
                update,
            )
        elif rows.ahead:
            yield Finding(
                "labels-shifted-wrongly",
                "certain",
                f"The targets are {rows.ahead} tokens away from what is read, not 1.",
                "",
                [("the shift", 0.9)],
                "targets[:, i] has to be ids[:, i + 1]",
                update,
            )

    def generated(self, model, inputs, mask, found):
        self.writing += 1

    def frozen_words(self, rows):
        """Tokens that were added to the vocabulary, stand in the rows, and cannot learn."""
        if self.doctor.trained is None or any(
            p.requires_grad and ("embed" in name or "wte" in name or "token_adapter" in name)
            for name, p in self.doctor.trained.named_parameters()
        ):
            return
        new = (
            [i for i in rows.ids.unique().tolist() if i >= self.words]
            if self.words
            else self.alike(rows)
        )
        if new:
            grew = (
                f"the embedding grew from {self.words:,} rows"
                if self.words
                else "their rows are all the mean of the other rows, as resize_token_embeddings makes them"
            )
            yield Finding(
                "new-tokens-untrained",
                "certain",
                "Tokens that were added are in the rows, and their embeddings are frozen: they stay noise.",
                f"{grew}; {self.doctor.decode(new[:5])} are read, and no embedding is trained",
                [("LoRA trains the layers only", 0.95)],
                "trainable_token_indices=[the new ids] in LoraConfig, or modules_to_save=['embed_tokens', 'lm_head']",
                self.doctor.updates,
            )

    def alike(self, rows):
        """Return the ids that were read whose embedding is the mean of all: rows that were added, and have learned nothing yet."""
        table = table_of(self.doctor.trained)
        weight = getattr(table, "weight", None)
        if weight is None or weight.ndim != 2:
            return []
        ids = rows.ids[rows.real].unique()
        read = weight[ids.clamp(max=len(weight) - 1).to(weight.device)].float()
        far = (read - weight.float().mean(0)).norm(dim=1)
        return ids[
            ((far < 0.1 * far.median()) & read.any(1)).cpu()
        ].tolist()  # a row of zeros is padding's

    def add(self, rows):
        """Count what these rows read and train."""
        c, tokenizer, ends = self.count, self.doctor.tokenizer, self.doctor.ends()
        pads = (
            {tokenizer.pad_token_id}
            if tokenizer is not None and tokenizer.pad_token_id is not None
            else filling(rows)
        )
        bos = getattr(tokenizer, "bos_token_id", None)
        lengths = [
            tail(row, keep, pads) for row, keep in zip(rows.ids.tolist(), rows.real.tolist())
        ]
        own = (
            rows.documents or len(set(lengths)) > 1 or rows.masked and not bool(rows.real.all())
        )  # rows of their own length
        for row, trained, keep, length, targets in zip(
            rows.ids.tolist(),
            rows.trained.tolist(),
            rows.real.tolist(),
            lengths,
            rows.targets.tolist(),
        ):
            values = [
                token for token in targets if token >= 0
            ]  # the last token of a row may be a target only, and never read
            said = [i for i in range(1, len(row)) if trained[i]]
            partly = bool(said) and len(said) < 0.9 * (length - 1)
            self.rows += 1
            c["trained"] += len(said)
            c["empty"] += not said
            c["partly"] += partly
            beyond = [
                i for i in said if i > length
            ]  # the first pad may be the end token itself, when they are one token
            beyond += [i for i in said if i == length and row[i] not in ends]
            c["padding"] += len(beyond)
            c["pad_rows"] += len(beyond) > 0
            c["bos_twice"] += (
                bos is not None
                and len(row) > 1
                and row[first(keep)] == bos == row[min(first(keep) + 1, len(row) - 1)]
            )
            stops = [
                i for i in said if i + 1 < len(row) and keep[i + 1] and not trained[i + 1]
            ]  # where an answer ends
            c["stops"] += len(stops)
            c["stops_at_end"] += sum(row[i + 1] in ends for i in stops)
            if own or partly:
                rest = (
                    row[said[-1] + 1 : length] if said else []
                )  # read after the last answer: a question without one; what is all alike only fills
                beyond = len(rest) if len(set(rest)) > 3 and rest[-1] not in ends else 0
                self.kept.append(
                    (
                        length,
                        bool(said),
                        any(token in ends for token in values),
                        any(token in ends for token in values[-2:]),
                        any(token in ends for token in row[: length + 1]),
                        beyond,
                        row[first(keep)],
                        row[length - 1] in ends,
                    )
                )
            if (
                tokenizer is not None
                and self.rows <= 32
                and said
                and len(said) >= 0.9 * (length - 1)
            ):
                text = tokenizer.decode(row[:length])
                c["prompted"] += bool(USER.search(text) and REPLY.search(text))
        self.cut()

    def cut(self):
        """Rows that pile up at one greatest length were cut there; count them and the others apart."""
        self.longest = max((length for length, *_ in self.kept), default=0)
        piled = [row for row in self.kept if row[0] == self.longest]
        fits = sum(row[7] for row in piled) > 0.5 * len(
            piled
        )  # they end with their end tokens: of one length, and not cut
        full = piled if len(piled) >= max(3, 0.05 * len(self.kept)) and not fits else []
        rest = [row for row in self.kept if row[0] < self.longest or not full]
        usual = max((row[5] for row in rest), default=3)
        alike = (
            rest or len({row[6] for row in full}) == 1
        )  # windows of one long text begin anywhere, conversations at their beginning
        self.count |= {
            "full_empty": sum(not row[1] for row in full),
            "unended_full": sum(row[1] and not row[3] for row in full),
            "left_open": sum(row[5] > max(3, usual) for row in full) if alike else 0,
            "short": len(rest),
            "ended": sum(row[2] for row in rest),
            "end_read": sum(row[4] for row in rest),
        }

    def judge(self):
        c, n, update, doctor = self.count, self.rows, self.doctor.updates, self.doctor
        if c["empty"] == n and n >= 4:
            yield Finding(
                "nothing-trained",
                "certain",
                "Not one token of any row enters the loss: there is nothing to learn.",
                f"{n} rows, 0 tokens trained",
                [
                    (
                        "the mark that the answer should begin with was not found, so that everything was masked",
                        0.8,
                    ),
                    ("truncation cut every answer off", 0.2),
                ],
                "print one row's labels beside its tokens; the marker must be tokenized exactly as it stands in the row",
                update,
            )
        elif c["full_empty"] >= max(2, 0.05 * n):
            yield Finding(
                "answer-truncated",
                "certain",
                "Rows are cut before their answer begins: they cost time and teach nothing.",
                f"{c['full_empty']} of {n} rows fill the whole length of {self.longest} and train no token",
                [
                    ("the maximum length is shorter than the prompts", 0.9),
                    ("the mark was not found", 0.1),
                ],
                "a larger maximum length, or cut the prompt from its beginning",
                update,
            )
        elif c["empty"] >= max(2, 0.1 * n):
            yield Finding(
                "nothing-trained",
                "warning",
                "Many rows train no token at all.",
                f"{c['empty']} of {n} rows",
                [("the mark of the answer was not found in them", 0.7), ("truncation", 0.3)],
                "decode one of these rows and look where its answer begins",
                update,
            )
        if c["pad_rows"] >= max(2, 0.1 * n) and c["padding"] > n:
            yield Finding(
                "padding-in-loss",
                "certain",
                "Padding is learned: the loss counts tokens that only fill the row up.",
                f"{c['padding']:,} of {c['trained']:,} trained tokens are padding, in {c['pad_rows']} of {n} rows",
                [("labels are a copy of input_ids, padding included", 0.95)],
                "labels[attention_mask == 0] = -100",
                update,
            )
        if c["bos_twice"] >= max(2, 0.5 * n):
            yield Finding(
                "double-bos",
                "certain",
                "Rows begin with the beginning-of-text token twice.",
                f"{c['bos_twice']} of {n} rows; {doctor.decode([doctor.tokenizer.bos_token_id] * 2)}",
                [("the template writes it, and the tokenizer adds it again", 0.95)],
                "tokenizer(text, add_special_tokens=False) after apply_chat_template",
                update,
            )
        if doctor.knew() and c["prompted"] >= max(2, 0.5 * min(n, 32)):
            yield Finding(
                "prompt-trained",
                "warning",
                "The questions are learned as well as the answers.",
                f"in {c['prompted']} of {min(n, 32)} rows with a question and an answer every token is trained",
                [
                    ("labels are a copy of input_ids; the prompt was not masked", 0.9),
                    ("it is meant so: some do train on all of it", 0.1),
                ],
                "set the labels of the prompt to -100 (TRL: prompt/completion columns, or assistant_only_loss=True)",
                update,
            )
        if c["left_open"] >= max(4, 0.15 * n) and not c["full_empty"]:
            yield Finding(
                "answer-truncated",
                "certain" if c["short"] else "warning",
                "Conversations are cut off at the maximum length, in the middle of a question: their later answers are lost.",
                f"{c['left_open']} of {n} rows fill the whole length of {self.longest} and end with text that is no answer",
                [("the maximum length is shorter than the rows", 0.95)],
                "a larger maximum length; count what is cut before training",
                update,
            )
        if (
            self.writing >= 2
        ):  # it learns from what it writes itself: no data set is at fault for how that ends
            return
        if n < 16 or not doctor.ends() or not c["short"]:
            return
        tokenizer = doctor.tokenizer
        fills = tokenizer is not None and tokenizer.pad_token_id in doctor.ends()
        untrained = c["end_read"] >= 0.5 * c["short"] and c["ended"] == 0 and c["trained"]
        if untrained and (fills or c["stops_at_end"] >= 0.5 * c["stops"] > 0):
            yield Finding(
                "eos-masked",
                "certain",
                "The end of an answer is read but never learned: the model will not stop.",
                f"{c['end_read']} of {c['short']} rows that were not cut hold an end token ({doctor.decode(sorted(doctor.ends()))}); it is trained in none",
                [
                    ("padding and end of text are the same token, and padding is masked", 0.9),
                    ("the template puts it outside of the answer", 0.1),
                ],
                "give padding a token of its own, or mask by attention_mask, not by token id",
                update,
            )
        elif untrained or c["end_read"] == 0 and (c["partly"] or c["short"] >= 16):
            yield Finding(
                "eos-missing",
                "certain",
                "No row ends with an end token: the model never learns when to stop.",
                f"{c['short']} rows that were not cut; in none is any of {doctor.decode(sorted(doctor.ends()))} learned or following what is learned",
                [("it was never appended to the text", 0.95)],
                "text + tokenizer.eos_token, or a chat template that ends each answer with its mark",
                update,
            )
        if c["unended_full"] >= max(4, 0.15 * n) and c["partly"]:
            yield Finding(
                "answer-truncated",
                "certain",
                "Answers are cut off at the maximum length, their end with them.",
                f"{c['unended_full']} of {n} rows fill the whole length and have no end token",
                [("the maximum length is shorter than the rows", 0.95)],
                "a larger maximum length; count what is cut before training",
                update,
            )


def filling(rows):
    """Return the id that fills rows up, as a set, where no tokenizer tells: a quarter of the rows end in runs of it, of several lengths, and it stands nowhere else."""
    lists = rows.ids.tolist()
    token = Counter(row[-1] for row in lists).most_common(1)[0][0]
    runs = [len(list(takewhile(lambda other: other == token, reversed(row)))) for row in lists]
    elsewhere = any(row.count(token) > run for row, run in zip(lists, runs))
    return (
        {token}
        if sum(run >= 3 for run in runs) >= 0.25 * len(runs)
        and len(set(runs)) > 1
        and not elsewhere
        and not rows.documents
        else set()
    )


def table_of(model):
    """Return a model's embedding of tokens, or None if it does not say."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None


def tail(row, keep, pads):
    """Return the length of a row without the padding at its end, by the mask, else by a run of the padding token."""
    length = len(keep) - next((i for i, real in enumerate(reversed(keep)) if real), 0)
    if length < len(row) or not pads:
        return length
    while length > 1 and row[length - 1] in pads:
        length -= 1
    return length


def first(keep):
    """Return the place of the first real token."""
    return next((i for i, real in enumerate(keep) if real), 0)
