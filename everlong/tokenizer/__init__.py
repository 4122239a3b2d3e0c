"""Text to token ids and back; chat templates; tool calls."""

from everlong.tokenizer.chat_template import ChatTemplate
from everlong.tokenizer.gguf import tokenizer_from_gguf
from everlong.tokenizer.huggingface import load_tokenizer
from everlong.tokenizer.tokenizer import StreamDecoder, Tokenizer
from everlong.tokenizer.tool_calls import Parsed, ToolCall, ToolCallParser, parse_tool_calls
from everlong.tokenizer.train import train_tokenizer

__all__ = [
    "ChatTemplate",
    "Parsed",
    "StreamDecoder",
    "Tokenizer",
    "ToolCall",
    "ToolCallParser",
    "load_tokenizer",
    "parse_tool_calls",
    "tokenizer_from_gguf",
    "train_tokenizer",
]
