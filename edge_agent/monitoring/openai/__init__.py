"""Language models over HTTP, as clients of OpenAI's interface for chats expect it.

https://platform.openai.com/docs/api-reference/chat
"""
