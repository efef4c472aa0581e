"""How the folders in a quorum queue's configuration are found, in every form in which RabbitMQ writes them."""

import pytest

from tellerline.local_stack.servers.rabbit import RAFT_FOLDER


@pytest.mark.parametrize(
    "written",
    [
        '"/srv/tellerline/data"',
        '"/srv/a \\"quoted\\" folder/data"',
        '"/srv/tellerline/very/long"\n                "/path/data"',
        "[47,115,114,\n                 9731]",
    ],
)
def test_a_folder_is_replaced_in_whatever_form_it_was_written(written: str) -> None:
    text = f'#{{data_dir =>\n      {written},\n  name => quorum_queues,wal_data_dir => {written},uid => <<"X">>}}.'
    moved = RAFT_FOLDER.sub(r'\1"here"', text)
    assert moved == '#{data_dir =>\n      "here",\n  name => quorum_queues,wal_data_dir => "here",uid => <<"X">>}.'
