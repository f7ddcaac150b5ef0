"""A model's chat template, seen as token ids that are only ever appended to."""

import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jinja2
from transformers import PreTrainedTokenizerBase

from uma_lib import prompts
from uma_lib.engines import load as models
from uma_lib.engines.local import Read, Rollout
from uma_lib.engines.protocol import Dialogue, Tokens, Turn, no_room
from uma_lib.files import RunError
from uma_lib.tools import parse_calls, split_thought

T = TypeVar("T")


class ChatFormat:
    """A tokenizer's chat template, seen as token ids that are only ever appended to.

    The text between an assistant's turn and the next one is cut out of the template once, by rendering a
    conversation of markers. Special tokens written out in message texts ("<|im_end|>" in a document) are
    broken up with a space, so that no text can close a turn; tags that a tokenizer knows but does not call
    special, such as <tool_call>, pass.

    options: what the template itself can be told, such as ``{"enable_thinking": False}``. Where it opens a thought at
    the end of the prompt, ``opened`` is the tag that turns begin with, unseen by the model that goes on.

    Raises `RunError` if the template cannot render tool results, ends turns with ordinary text, or asks for calls in a
    form that `tools.parse_calls` does not read.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: dict[str, Any] | None = None):
        self.tokenizer, self.options = tokenizer, dict(options or {})
        self._special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        if tokenizer.chat_template is None:
            raise RunError(f"the tokenizer of {tokenizer.name_or_path!r} has no chat template: use an instruct model")
        one, two = self._after_turn(["@@first@@"]), self._after_turn(["@@first@@", "@@second@@"])
        before, _, rest = two.partition("@@first@@")
        self._between, _, self._after = rest.partition("@@second@@")
        if one != before + "@@first@@" + self._after:
            raise RunError("the chat template does not render tool results one after the other: use another model")
        ids = self._encode(before)
        if not ids:
            raise RunError("the chat template has nothing at the end of a turn: use a model with an end token")
        self.end_id = ids[0]
        end = tokenizer.convert_ids_to_tokens(self.end_id)
        if end not in tokenizer.get_added_vocab():
            raise RunError(f"the chat template ends a turn with ordinary text ({end!r}): use a model with an end token")
        self._before = before.removeprefix(tokenizer.decode([self.end_id]))
        self.end_ids = {self.end_id, tokenizer.eos_token_id} - {None}
        probe = {"type": "function", "function": {"name": "@@tool@@", "parameters": {"properties": {}}}}
        asked = [{"role": "system", "content": "@@system@@"}, {"role": "user", "content": "@@user@@"}]
        # SmolLM2 and others have a template that drops tools: the prompt then describes them
        self._renders_tools = "@@tool@@" in self._render(asked, [probe])
        end_of_prompt = self._render(asked, None).rpartition("@@user@@")[2]
        self.opened = "" if "@@said@@" in split_thought(end_of_prompt + "@@said@@")[1] else "<think>\n"
        if self._renders_tools:
            self._check_calls()

    def open(self, messages: list[dict[str, str]], tools: list[dict] | None) -> list[int]:
        """Ids of a new session: the messages and tool schemas, up to where the assistant begins to write."""
        if tools and not self._renders_tools:
            messages, tools = prompts.with_tools(messages, tools), None
        plain = [{**message, "content": self._plain(message["content"])} for message in messages]
        return self._encode(self._render(plain, tools))

    def results(self, texts: list[str], stopped: bool) -> list[int]:
        """Ids of what follows an assistant's turn: the end token if it was not sampled, one tool message a
        text, and the beginning of the assistant's next turn."""
        ids = self._encode(self._before + self._between.join(map(self._plain, texts)) + self._after)
        return ids if stopped else [self.end_id, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a sampled turn without its end token; tags such as <tool_call> are kept."""
        if ids and ids[-1] in self.end_ids:
            ids = ids[:-1]
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _plain(self, text: str) -> str:
        for token in self._special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _render(self, messages: list[dict[str, Any]], tools: list[dict] | None, prompt: bool = True) -> str:
        try:
            return self.tokenizer.apply_chat_template(
                messages, tools=tools or None, tokenize=False, add_generation_prompt=prompt, **self.options
            )
        # whatever is wrong in a template's own code
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
                RecursionError, MemoryError) as error:  # fmt: skip
            roles = ", ".join(message["role"] for message in messages)
            said = models.one_line(error)
            raise RunError(f"the chat template refuses a conversation of {roles}: {said}") from error

    def _check_calls(self) -> None:
        """Refuse a template that shows calls to the model in a form that it would be answered in and nobody reads."""
        said = {"key": "2024-05-01 Dining", "value": "12.50"}
        tool = {"name": "add", "description": "Add.", "parameters": {
            "type": "object", "properties": {name: {"type": "string"} for name in said}, "required": [*said],
        }}  # fmt: skip
        schemas, opening = [{"type": "function", "function": tool}], [{"role": "user", "content": "@@user@@"}]
        for arguments in (said, json.dumps(said)):  # templates want the one or the other
            call = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": arguments}}
            turn = {"role": "assistant", "content": "", "tool_calls": [call]}
            try:
                text = self._render([*opening, turn], schemas, prompt=False).rpartition("@@user@@")[2]
            except RunError:
                continue
            if said["value"] not in text:  # it shows no calls, so the model knows none of its own form
                return
            for token in self._special:  # as a turn is decoded: without its end token, with all other tags
                text = text.replace(token, "") if token == self.tokenizer.convert_ids_to_tokens(self.end_id) else text
            found = [(call.name, call.arguments) for call in parse_calls(text, {"add"})[1]]
            if ("add", said) in found:
                return
            written = " ".join(text.split())[-120:]
            raise RunError(
                f"the chat template writes calls in a form that is not read ({written!r}): use another model"
            )

    def _after_turn(self, results: list[str]) -> str:
        messages = [{"role": "user", "content": "@@user@@"}, {"role": "assistant", "content": "@@turn@@"}]
        text = self._render(messages + [{"role": "tool", "content": result} for result in results], None)
        after = text.rpartition("@@turn@@")[2]
        if any(result not in after for result in results):
            raise RunError("the chat template does not render tool results: use a model trained with tools")
        return after


def as_tokens(dialogue: Dialogue[T], chat: ChatFormat) -> Rollout[T]:
    """A dialogue in messages as a rollout in tokens, with the exact ids that were read and sampled.

    An opening that leaves no room to write is thrown back into the dialogue (`protocol.no_room`).
    """
    tokens, stopped, turn, error = Tokens(), True, None, None
    while True:
        try:
            ask = dialogue.throw(error) if error else dialogue.send(turn)
        except StopIteration as end:
            return end.value
        error = None
        if ask.fresh:
            tokens, new = Tokens(), chat.open(ask.messages, ask.tools)
            if len(new) >= ask.budget:
                error = no_room(len(new), ask.budget)
                continue
        else:
            new = chat.results([message["content"] for message in ask.messages], stopped)
            if len(tokens.ids) + len(new) >= ask.budget:
                turn = Turn("", False, tokens, len(tokens.ids) - tokens.written, tokens.written, full=True)
                continue
        tokens.read(new)
        room = ask.max_new if ask.budget == math.inf else min(ask.max_new, ask.budget - len(tokens.ids))
        sampled = yield Read(new, ask.fresh, int(room), ask.seed)
        tokens.wrote(sampled.ids, sampled.logprobs)
        stopped, written = sampled.stopped, tokens.written
        turn = Turn(chat.opened + chat.decode(sampled.ids), stopped, tokens, len(tokens.ids) - written, written)
