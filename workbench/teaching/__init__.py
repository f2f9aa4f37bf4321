"""Teachers trained from nothing."""
