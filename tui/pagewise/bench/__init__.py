"""The yardstick's judgement: what a figure is, whether it can be trusted, how it is written."""
