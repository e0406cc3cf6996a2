"""Every message of the package is a sentence that names the thing and says what to do.

The rule is mechanical, so that it can fail: it reads the source, not the intention. What an error or a warning says
must

* be a sentence: five words or more, on one line, that begins with a capital, a value or a name of the code, and ends
  with a full stop (or with a command to type, or is the text of an OSError, to which Python adds the path);
* name the thing: hold an interpolated value, or a name of the code;
* say what to do: hold an imperative after its first clause ("...; give another"), or what would be right ("k must be a
  positive integer, not 'a'"), or what there is to choose from. ``NO_REMEDY`` lists those that need none, and why.
"""

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import pyterrier_jacolbert

PACKAGE = Path(pyterrier_jacolbert.__file__).parent
#: Stands for an interpolated value.
VALUE = "\N{OBJECT REPLACEMENT CHARACTER}"

IMPERATIVES = (
    "add ask begin build call change check choose connect correct delete draw drop encode end explain "
    "fetch get give go index install let lower make merge name number open pass put raise read remove rename "
    "repair replace report run save see set split take train try turn unset use wait"
).split()
#: "; give ...", ": pip install ...", ", so build ...", ", or fetch ...", "with mode='overwrite'" of a choice.
IMPERATIVE = re.compile(
    rf"(?:[;:,(] |, so |, or |\. |^)(?:(?:first|then|and|or|so) )?(?:{'|'.join(IMPERATIVES)}|pip install)\b", re.I
)
#: What would be right: "must be A, not B", "must lie between"; and what there is: "there are A, B".
RIGHT = re.compile(
    r"\bmust (?:be|lie|hold|have|score|stand)\b|\btakes? .*, not |\bneeds? \S+.*, not |"
    r"; there (?:are|is) |; it has |the nearest is"
)
CODE_NAME = re.compile(
    r"\b\w+\(\w*\)|'[^']+'|\b\w+=|\b\w+_\w+|--\w|\b[A-Z][a-z]+[A-Z]\w*|\b\w+\.\w+\b|\bpip install\b|\[\w+\]"
)

#: Messages without a remedy: part of the text, and why it needs none.
NO_REMEDY = {
    "has no attribute": "Python's own words for a missing attribute, which tools read",
    "training goes on on the CPU": "a notice of what was decided; whoever wants it otherwise knows what was asked",
    "the products are done in bfloat16": "a notice of what was decided, and nothing is lost by it",
    "No revision of": "a notice about the data, which its reader cannot change",
    "No checksum of": "a notice about the data, which its reader cannot change",
}
#: Raised without a message of their own: what is raised, and why.
SILENT = {
    "NotImplementedError": "an abstract method; the subclass, not a user, is at fault",
    "KeyboardInterrupt": "the second Ctrl-C, which stops at once",
    "ValueError": "caught a few lines below, where the line of the file is named",
    "error.cause": "Ray's wrapper taken off: the message is that of the error within",
}


@dataclass(frozen=True)
class Message:
    """What an error or a warning says; interpolated values are ``VALUE``."""

    where: str
    kind: str
    text: str
    #: Every identifier of the module, so that a sentence may begin with the name of a parameter.
    identifiers: frozenset[str]


def spelled(node, constants):
    """The text of an expression, with ``VALUE`` for what is not written out, in it or in a constant of its module."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return spelled(node.value, constants) if isinstance(node.value, ast.Name) else VALUE
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spelled(node.left, constants) + spelled(node.right, constants)
    return constants.get(node.id, VALUE) if isinstance(node, ast.Name) else VALUE


def constants_of(tree):
    """The strings that a module gives names to."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def kind_of(call):
    """The exception that a call makes, "warning" for one that warns, None for any other call."""
    name = ast.unparse(call.func)
    if name in ("warnings.warn", "warn"):
        return "warning"
    if name == "type(error)":
        return "OSError"
    last = name.rpartition(".")[2]
    made = getattr(builtins, last, None)
    if (isinstance(made, type) and issubclass(made, BaseException)) or re.fullmatch(r"\w+(Error|Warning)", last):
        return last
    return None


def modules():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def identifiers(tree):
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, (ast.arg, ast.keyword)) and node.arg}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return frozenset(found)


def messages():
    """Every message of the package, whether it is raised, returned by a helper or warned with."""
    found = []
    for path, tree in modules():
        known, constants = identifiers(tree), constants_of(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or (kind := kind_of(node)) is None or not node.args:
                continue
            # OSError(number, text): the text is the second.
            text = spelled(node.args[kind == "OSError" and len(node.args) > 1], constants)
            found.append(Message(f"{path.relative_to(PACKAGE)}:{node.lineno}", kind, text, known))
    return found


MESSAGES = messages()
EVERY = pytest.mark.parametrize("message", [pytest.param(one, id=one.where) for one in MESSAGES])


def is_written_out(message):
    return bool(message.text.replace(VALUE, "").strip(" .:;"))


def test_the_messages_are_found():
    assert len(MESSAGES) >= 200
    assert sum(message.kind == "warning" for message in MESSAGES) >= 12
    assert all(is_written_out(message) for message in MESSAGES if message.kind == "warning")


@EVERY
def test_a_message_is_a_sentence(message):
    if not is_written_out(message):
        # f"{path}: {error}": a message around another, which is looked at where it is made.
        assert message.text.count(VALUE) >= 2, f"{message.where} says nothing of its own"
        return
    text = message.text
    if message.kind == "AttributeError":
        return  # Python's own words for a missing attribute, which tools read
    assert "\n" not in text
    assert len(re.findall(rf"[\w{VALUE}]+", text)) >= 5, text
    first = text.split()[0]
    code = first.startswith((VALUE, "--", "'")) or re.match(r"\w+=|\w+_\w+$", first)
    parameter = re.match(r"\w*", first)[0] in message.identifiers
    assert first[0].isupper() or code or parameter, f"{message.where} begins with {first!r}"
    command = re.search(rf"pip install [\w'\"\[\] ,.{VALUE}-]+$", text)
    assert text.endswith((".", f".{VALUE}")) or command or message.kind == "OSError", text
    assert not text.endswith(("..", " ")), text


@EVERY
def test_a_message_names_the_thing(message):
    assert VALUE in message.text or CODE_NAME.search(message.text), f"{message.where} names nothing: {message.text}"


@EVERY
def test_a_message_says_what_to_do(message):
    if not is_written_out(message) or any(part in message.text for part in NO_REMEDY):
        return
    text = message.text
    assert IMPERATIVE.search(text) or RIGHT.search(text), f"{message.where} says no remedy: {text}"


@pytest.mark.parametrize("part", NO_REMEDY)
def test_what_needs_no_remedy_is_one_message_that_has_none(part):
    (message,) = [message for message in MESSAGES if part in message.text]
    assert not IMPERATIVE.search(message.text)
    assert not RIGHT.search(message.text)


def test_whatever_is_raised_has_a_message():
    silent = set()
    for path, tree in modules():
        helpers = {
            function.name
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            and any(isinstance(node, ast.Call) and kind_of(node) and node.args for node in ast.walk(function))
        }
        caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            raised = node.exc
            if isinstance(raised, ast.Call) and (
                (kind_of(raised) and raised.args) or ast.unparse(raised.func) in helpers
            ):
                continue
            if isinstance(raised, ast.Name) and raised.id in caught:
                continue
            assert ast.unparse(raised) in SILENT, f"{path.name}:{node.lineno} raises {ast.unparse(raised)}"
            silent.add(ast.unparse(raised))
    assert silent == set(SILENT)


def test_nothing_ends_the_process_with_a_message():
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "exit", "quit", "os._exit"):
                assert spelled(node.args[0], {}) == VALUE, (
                    f"{path.name}:{node.lineno} exits with a text; raise an error"
                )


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("bad k", test_a_message_is_a_sentence),
        ("something went wrong here now.", test_a_message_is_a_sentence),
        ("Something went wrong in this place", test_a_message_is_a_sentence),
        ("Something went wrong in this place.", test_a_message_names_the_thing),
        (f"The file {VALUE} could not be read.", test_a_message_says_what_to_do),
        (f"The index {VALUE} is damaged, which is a pity.", test_a_message_says_what_to_do),
    ],
)
def test_the_rules_refuse_what_they_should(text, check):
    with pytest.raises(AssertionError):
        check(Message("nowhere.py:1", "ValueError", text, frozenset({"path"})))
