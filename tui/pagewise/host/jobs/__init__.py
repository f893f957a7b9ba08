"""Work beside the conversation, one file a kind of job."""
