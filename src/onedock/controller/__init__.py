"""The process on the front-end: oned's requests become intents, intents become passes, passes become outcomes."""
