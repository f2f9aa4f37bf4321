"""Which layer of the teacher goes where in the student, drawn and moved."""
