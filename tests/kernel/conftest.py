"""What the tests with a real kernel share."""

from kernel_page import older_page as older_page
from kernel_page import page as page
