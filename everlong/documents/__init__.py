"""Readers of documents: web pages and archives, PDF, Word, EPUB, text, source code, records."""
