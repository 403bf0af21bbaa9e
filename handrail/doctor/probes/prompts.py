"""Does a prompt end, when the model is asked, as it ended in training?"""

from collections import Counter

from ..findings import finding
from ..token_rows import OTHER, real_in, rows_of

END = 3  # tokens before an answer that are kept
ROWS, PROMPTS = 20, 4  # that are needed


class Prompts:
    """Collects what stands right before the answers that are learned."""

    def __init__(self, doctor):
        self.doctor, self.ends = doctor, Counter()  # last tokens of the prompts in training
        self.whole = 0  # rows that are learned from their first token on: no prompt in them
        self.asked, self.unlike = 0, Counter()  # prompts; last tokens that never stood there

    def after_step(self, optimizer):
        number = self.doctor.updates
        if (number > 400 and number % 10) or len(self.ends) > 10_000:
            return
        for rows in map(rows_of, self.doctor.now.passes):
            if rows is not None and rows.trained is not None and rows.ahead != OTHER:
                self.read(rows)

    def read(self, rows):
        begins = rows.trained[:, 1:] & ~rows.trained[:, :-1]
        first = rows.real.int().argmax(1).tolist()
        for i, at in begins.nonzero().tolist():
            if at <= first[i]:
                self.whole += 1
            else:
                self.ends[tuple(rows.ids[i, max(0, at + 1 - END) : at + 1].tolist())] += 1

    def generated(self, model, inputs, mask, found):
        if getattr(inputs, "ndim", 0) != 2 or self.doctor.updates < ROWS or not self.fixed():
            return
        owned = self.doctor.history.owned
        if not any(id(p) in owned for p in model.parameters()):
            return
        known = {end[-1] for end in self.ends}
        real = real_in(inputs, mask, self.doctor.tokenizer)
        for row, keep in zip(inputs, real, strict=True):
            prompt = row[keep].tolist()
            self.asked += 1
            if prompt and prompt[-1] not in known and not self.begun(prompt):
                self.unlike[prompt[-1]] += 1

    def fixed(self):
        """Return True if the prompts of the training end in one way, or in a few."""
        last = Counter()
        for end, number in self.ends.items():
            last[end[-1]] += number
        usual, total = sum(number for _, number in last.most_common(3)), last.total()
        return total >= ROWS and usual >= 0.9 * total and self.whole < 0.1 * total

    def begun(self, prompt):
        """Return True if a prompt goes on by more than a token where the answer starts."""
        ends = (tuple(prompt[max(0, at - END) : at]) for at in range(1, len(prompt) - 1))
        return any(end in self.ends for end in ends)

    def ended(self):
        number = self.unlike.total()
        if self.asked < PROMPTS or number < 0.9 * self.asked:
            return
        decode = self.doctor.decode
        usual, asked = self.ends.most_common(1)[0][0][-1], self.unlike.most_common(1)[0][0]
        evidence = (
            f"{number} of {self.asked} prompts end in a token that never stood before an answer in "
            f"training, such as {decode([asked])}; there it was {decode([usual])}"
        )
        yield finding("prompt-unlike-training", evidence, self.doctor.updates)
