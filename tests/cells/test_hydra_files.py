"""The names of cells' folders."""

from runner.cells.hydra_files import folder_name


def test_a_folder_name_is_safe_and_short() -> None:
    assert folder_name("op=matmul,size=64x64") == "op=matmul,size=64x64"
    assert folder_name("size={m: 4, k: 'a/b'}") == "size=-m-4,-k-a-b"
    long = [folder_name("op=" + "x" * 300 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 120
    assert len(folder_name("op=" + "жы" * 60).encode()) <= 120
