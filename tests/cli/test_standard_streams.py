"""What is written stays whole lines where several write into one file."""

import io
import threading

from runner.cli.standard_streams import Stream


class Pieces(io.StringIO):
    """A stream that keeps each write apart, as an unbuffered file would."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


def test_a_line_and_its_end_are_written_in_one_piece() -> None:
    pieces = Pieces()
    stream = Stream(pieces)
    print("a", "b", file=stream)
    print("without an end", end="", file=stream)
    assert pieces.written == ["a b\n"]
    stream.flush()
    assert pieces.written == ["a b\n", "without an end"]


def test_the_lines_of_two_threads_do_not_mix() -> None:
    pieces = Pieces()
    stream = Stream(pieces)
    stream.write("begun, ")
    other = threading.Thread(target=print, args=("another",), kwargs={"file": stream})
    other.start()
    other.join()
    stream.write("ended\n")
    assert pieces.written == ["another\n", "begun, ended\n"]


def test_a_sign_that_a_stream_has_not_is_replaced() -> None:
    """As in a container, whose standard output may be ASCII."""
    pieces = io.BytesIO()
    stream = Stream(io.TextIOWrapper(pieces, encoding="ascii"))
    print("2.0x ± 1%", file=stream)
    stream.flush()
    assert pieces.getvalue() == b"2.0x \\xb1 1%\n"
