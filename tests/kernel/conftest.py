"""What the tests with a real kernel share."""

from kernel_page import page as page
