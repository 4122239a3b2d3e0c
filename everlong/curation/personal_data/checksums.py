"""Check digits of the numbers that people, accounts and cards have.

Each function takes characters without separators and says whether their check digits are right.
Sources: ISO/IEC 7812-1, annex B (Luhn); ISO/IEC 7064 (97-10; 11-2; 11,10); Verhoeff, "Error
Detecting Decimal Codes" (1969), section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Sum of the digits of twice a digit."""


def luhn(digits: str) -> bool:
    """The formula of payment cards, modulo 10: finds every wrong digit, and most swapped ones."""
    plain, doubled = digits[::-2], digits[-2::-2]
    return (sum(map(int, plain)) + sum(_DOUBLED[int(digit)] for digit in doubled)) % 10 == 0


def mod_97_10(characters: str) -> bool:
    """Of IBANs, once their first four characters are put last; letters count from A = 10."""
    return int("".join(str(int(one, 36)) for one in characters)) % 97 == 1


def mod_11_10(digits: str) -> bool:
    """The hybrid system with one decimal check digit."""
    check = 5
    for digit in digits:
        check = ((check or 10) * 2 % 11 + int(digit)) % 10
    return check == 1


def mod_11_2(characters: str) -> bool:
    """The pure system whose check character is a digit or X."""
    check = 0
    for one in characters:
        check = check * 2 + (10 if one == "X" else int(one))
    return check % 11 == 1


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits, each times its weight; digits that have no weight do not count."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _multiply(left: int, right: int) -> int:
    """In the group of the symmetries of a pentagon: 0 to 4 are rotations, 5 to 9 reflections."""
    turned = left + right if left < 5 else left - right
    return turned % 5 + (5 if (left < 5) != (right < 5) else 0)


def _permutations() -> list[tuple[int, ...]]:
    """For each place, modulo 8, what a digit becomes there."""
    once = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    found = [tuple(range(10))]
    for _ in range(7):
        found.append(tuple(once[digit] for digit in found[-1]))
    return found


_PRODUCT = [[_multiply(left, right) for right in range(10)] for left in range(10)]
_PERMUTED = _permutations()


def verhoeff(digits: str) -> bool:
    """Finds every wrong digit and every swap of neighbours."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = _PRODUCT[check][_PERMUTED[place % 8][int(digit)]]
    return check == 0
