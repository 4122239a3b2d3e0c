"""How headings of a domain are asked about.

For each domain there are rules of a pattern and questions; the first rule whose pattern is in a
heading holds. ``{topic}`` is what the document is about, ``{heading}`` what the section is called.
Where no rule holds, it is asked what there is to know about the heading.

Source: for medicine, the types of question of MedQuAD (Ben Abacha and Demner-Fushman 2019, "A
question-entailment approach to question answering", section 3.1). The others: ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Domain = Literal["medical", "legal", "financial", "support", "code"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)


@dataclass(frozen=True)
class Rule:
    """Questions for some headings."""

    pattern: re.Pattern[str]
    questions: tuple[str, ...]


def _rules(table: str) -> tuple[Rule, ...]:
    """Rules from lines: a pattern, and under it, further in, its questions."""
    found: list[tuple[str, list[str]]] = []
    lines = table.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    for line in lines:
        if line[margin : margin + 1].strip():
            found.append((line.strip(), []))
        elif line.strip():
            found[-1][1].append(line.strip())
    return tuple(
        Rule(re.compile(rf"\b(?:{pattern})", re.IGNORECASE), tuple(questions))
        for pattern, questions in found
    )


RULES: Mapping[Domain, Sequence[Rule]] = {
    "medical": _rules(
        r"""
        side.effect|adverse
            What are the side effects of {topic}?
            Which side effects can {topic} have?
        symptom|signs?\b
            What are the symptoms of {topic}?
            How does one notice {topic}?
        cause
            What causes {topic}?
            What are the causes of {topic}?
        treat|therap|manag|surgery
            What are the treatments for {topic}?
            How is {topic} treated?
        diagnos|exam|tests?\b|screening
            How is {topic} diagnosed?
            How to diagnose {topic}?
        prevent
            How can {topic} be prevented?
            How to prevent {topic}?
        outlook|prognosis|expect
            What is the outlook for {topic}?
            What is the outlook for people with {topic}?
        risk|susceptib|who gets
            Who is at risk for {topic}?
            What are the risk factors of {topic}?
        complication
            What are the complications of {topic}?
        inherit|heredit
            Is {topic} inherited?
        frequency|incidence|prevalence|how common|epidemiolog
            How many people are affected by {topic}?
        genetic|genes?\b|mutation
            What are the genetic changes related to {topic}?
        stag(?:es|ing)
            What are the stages of {topic}?
        dos(?:e|age|ing)|how to (?:use|take)
            How is {topic} taken?
            What is the dose of {topic}?
        interact
            What does {topic} interact with?
        contraindic|who should not
            Who should not take {topic}?
        research|trial
            What research is being done for {topic}?
        living with|self.?care|diet|nutrition|lifestyle
            How does one live with {topic}?
            What to do for {topic}?
        when to (?:see|call|seek)
            When should someone with {topic} see a doctor?
        overview|information|what is|what are|about|introduction|summary|definition
            What is {topic}?
            What does one need to know about {topic}?
        """
    ),
    "legal": _rules(
        r"""
        definition|interpretation
            Which terms does {topic} define?
            How does {topic} define its terms?
        terminat|expir|\bterm\b|duration
            When does {topic} end?
            How can {topic} be terminated?
        liabilit
            Who is liable under {topic}?
            How does {topic} limit liability?
        indemn
            Who indemnifies whom under {topic}?
        confidential|non.disclosure
            What has to be kept confidential under {topic}?
        governing law|jurisdiction|choice of law|venue
            Which law governs {topic}?
        dispute|arbitrat|mediat
            How are disputes under {topic} resolved?
        payment|fees?\b|price|compensation
            What has to be paid under {topic}, and when?
        warrant
            What is warranted under {topic}?
            Which warranties does {topic} give?
        assign
            Can rights under {topic} be assigned?
        notice
            How are notices given under {topic}?
        intellectual property|copyright|patent|licen[cs]e grant|ownership
            Who owns what under {topic}?
            Which rights does {topic} grant?
        force majeure
            What does {topic} say about events beyond control?
        scope|application|purpose
            What does {topic} apply to?
        penalt|sanction|offen[cs]e|fine\b
            What are the penalties under {topic}?
        obligation|dut(?:y|ies)|responsibilit
            What are the obligations under {topic}?
        privacy|personal data|data protection
            How does {topic} treat personal data?
        amend|modif
            How can {topic} be changed?
        """
    ),
    "financial": _rules(
        r"""
        revenue|net sales|\bsales\b
            How did the revenue of {topic} develop?
            What is said about revenue in {topic}?
        expens|\bcosts?\b
            What is said about costs in {topic}?
            How did costs develop in {topic}?
        risk
            Which risks does {topic} name?
        liquidity|cash|capital resources
            What is said about liquidity in {topic}?
        income tax|\btax
            What is said about taxes in {topic}?
        dividend|repurchase|shareholder return
            What is paid to shareholders according to {topic}?
        debt|borrowing|credit facilit|notes payable
            Which debts does {topic} report?
        segment
            Which segments does {topic} report?
            How did the segments do according to {topic}?
        outlook|guidance|forecast
            What is expected for the future in {topic}?
        accounting polic|basis of preparation|recognition
            Which accounting policies does {topic} follow?
        lease
            What is said about leases in {topic}?
        pension|retirement|employee benefit
            Which benefits for employees does {topic} report?
        goodwill|intangible|impairment
            What is said about goodwill and intangible assets in {topic}?
        inventor
            What is said about inventories in {topic}?
        earnings per share|net income|profit
            What did {topic} earn?
        """
    ),
    "support": _rules(
        r"""
        refund|money back
            How do I get a refund?
            How are refunds made?
        cancel
            How do I cancel?
            How can I cancel it?
        track|where is my
            How do I track my order?
            Where is my order?
        deliver|shipping
            How does delivery work?
            Which delivery options are there?
        return(?:s|ing)?\b
            How do I return something?
        invoice|bill
            Where do I find my invoice?
            How does billing work?
        payment|pay(?:ing)?\b
            How can I pay?
            Which methods of payment are there?
        password|log.?in|sign.?in
            What can I do if I cannot sign in?
            How do I get a new password?
        account
            How do I manage my account?
        subscri|newsletter
            How do I change my subscription?
        install|set.?up|getting started
            How do I set up {topic}?
            How do I install {topic}?
        troubleshoot|problem|error|not work|fix|fail
            What can I do about this: {heading}?
            How do I solve this problem: {heading}?
        contact|speak|human|agent
            How do I reach customer service?
            How can I speak to someone?
        complain|feedback|review
            How do I make a complaint?
            Where can I give feedback?
        warrant|guarantee
            What does the warranty cover?
        requirement|compatib
            What do I need for {topic}?
        """
    ),
    "code": _rules(
        r"""
        install|setup|build(?:ing)?
            How do I install {topic}?
            How do I build {topic}?
        usage|example|quick.?start|getting started|synopsis
            How do I use {topic}?
            Show how {topic} is used.
        configur|settings|environment
            How do I configure {topic}?
        option|flags?\b|argument|parameter
            Which options does {topic} have?
            Which arguments does {topic} take?
        return|exit (?:status|code)
            What does {topic} return?
        exception|errors?\b|raises
            Which errors does {topic} raise?
        requirement|dependenc|prerequisite
            What does {topic} need?
        api|reference|methods?\b|functions?\b
            What is the interface of {topic}?
        test
            How do I run the tests of {topic}?
        licen[cs]e
            Under which licence is {topic}?
        contribut|develop
            How do I contribute to {topic}?
        troubleshoot|faq|known issue|bugs?\b|limitation
            Which problems are known of {topic}?
        see also|related
            What is related to {topic}?
        files?\b
            Which files does {topic} use?
        description|overview|introduction|about|name$|what is
            What does {topic} do?
            What is {topic}?
        """
    ),
}
"""In the order in which they are tried."""

OTHERWISE: Mapping[Domain, tuple[str, ...]] = {
    "medical": (
        "What should be known about {topic} and {heading}?",
        "What is said of {heading} in {topic}?",
    ),
    "legal": ("What does {topic} say about {heading}?", "What is laid down about {heading}?"),
    "financial": ("What does {topic} report about {heading}?", "What is said about {heading}?"),
    "support": ("What do I need to know about {heading}?", "Can you help me with {heading}?"),
    "code": ("What is {heading} in {topic}?", "Explain {heading} of {topic}."),
}
"""Where no rule holds."""

CELLS: Mapping[Domain, tuple[str, str]] = {
    "medical": ("What is the {column} for {row}?", "What is the {column} of {row}?"),
    "legal": ("What is the {column} of {row}?", "Which {column} does {row} have?"),
    "financial": ("What was {row} in {column}?", "How much was {row} in {column}?"),
    "support": ("What is the {column} of {row}?", "Which {column} does {row} have?"),
    "code": ("What is the {column} of {row}?", "Which {column} has {row}?"),
}
"""About a cell of a table, by the head of its column and the first cell of its row."""

FORMS = (
    "Question: {question}\n\nAnswer: {answer}",
    "Q: {question}\nA: {answer}",
    "{question}\n\n{answer}",
)
"""How a question and its answer are written."""
