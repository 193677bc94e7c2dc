"""The interactive page: one HTML file with the data, a little JavaScript, and no network.

`_data` makes plain numbers of datasets, `_page` puts them into page.html; page.js draws them.
"""

from learndyn.plot.explorer._page import Page as Page
from learndyn.plot.explorer._page import explore as explore
from learndyn.plot.explorer._page import page_path as page_path
