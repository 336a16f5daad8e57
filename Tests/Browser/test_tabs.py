"""Two tabs of one hypha share one writer."""

from case import BrowserTest
from node import until


class TabsTest(BrowserTest):
    def test_two_tabs(self):
        server = self.new_node()
        first = self.new_page(server.url).open().in_tab()
        first.set_up(server.setup_code())
        second = first.new_tab()
        second.wait_authorised()

        first.compose('from the first tab')
        second.wait_text('from the first tab')
        second.compose('from the second tab')
        first.wait_text('from the second tab')
        until('the server has both', lambda: server.texts() == ['from the second tab', 'from the first tab'])

        # The first tab held the writer; the second takes over.
        first.close_tab()
        second.compose('on its own')
        until('the server has it', lambda: server.texts()[0] == 'on its own', 60)
        third = second.new_tab()
        third.wait_text('on its own')
        third.compose('a third')
        second.wait_text('a third')
        until('the server has all', lambda: len(server.texts()) == 4)
        self.assertEqual(len(server.control('devices')['devices']), 1)
