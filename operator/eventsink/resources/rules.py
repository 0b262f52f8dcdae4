"""The table of the EventSink's rules: what may be written beyond shapes and bounds, and the message shown otherwise.

Each is CEL and Python of the same meaning; a test holds the two together on every rejected manifest. Rules about a URL or the
value of a header are attached to the object around it, since the API server repeats the value that a rule is attached to.
"""

from __future__ import annotations

from .rule import Rule, duration_form, form, one_form_of, unique, within

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
TENANT_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""A label value, since a namespace's label names the tenant; a UUID fits."""
MAX_TENANT_LENGTH = 63
CLAIM_PATTERN = rf"^(\*|{TENANT_PATTERN.strip('^$')})$"
"""What an EventSink may claim: a tenant, or the alerts of all tenants."""
TEXT_PATTERN = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
"""One line without control characters that is not blank: as much as an expression can say that every engine reads alike."""
VISIBLE_TEXT_PATTERN = r"^[^\x00-\x1f\x7f]*[^\p{Z}\p{Cc}\p{Cf}\p{M}\x{115f}\x{1160}\x{2800}\x{3164}\x{ffa0}][^\x00-\x1f\x7f]*$"
"""One line without control characters in which something can be seen: not only spaces of any kind, joiners, marks and blank letters."""
NAMESPACE_GLOB_PATTERN = r"^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$"
_QUOTED = r'''"([^"\\\r\n]|\\.)*"'''
_UNRESERVED = r"""[^ \t\r\n{}!=~,\\"'`]"""
_NAME_AND_OPERATOR = rf"[ \t]*({_QUOTED}|{_UNRESERVED}+)[ \t]*(=~|!~|!=|=)[ \t]*"
_ONE_MATCHER = rf"{_NAME_AND_OPERATOR}({_QUOTED}|{_UNRESERVED}*)[ \t]*"
MATCHER_PATTERN = rf"^[ \t]*\{{?{_ONE_MATCHER}(,{_ONE_MATCHER})*,?[ \t]*\}}?[ \t]*$"
"""The form of Alertmanager's matchers; only the operator can check that a pattern is RE2, and braces. A value without quotation marks has
none of the characters that Alertmanager reserves: what was written with them was meant as something else, and would match nothing."""
_LABEL = r"^[ \t]*\{?[ \t]*[a-zA-Z_:][a-zA-Z0-9_:]*[ \t]*"
_MATCHES = _LABEL + r"(=~|!~|!=|=)[ \t]*"
_TWO_OPERATORS_PATTERN = _LABEL + r"(=[ \t]*[=!]|=[ \t]+~|(=~|!~|!=)[ \t]*[=~!])"
_OTHER_QUOTES_PATTERN = _MATCHES + "['`]"
_UNQUOTED_PATTERN = _MATCHES + r"""[^ \t\r\n"'`=~!]"""
SECRET_NAME = form(
    DNS_SUBDOMAIN,
    "the name of a Secret consists of lower-case letters, digits, - and ., and begins and ends with a letter or digit",
)
SECRET_KEY = form(DATA_KEY_PATTERN, "the key of a Secret consists of letters, digits, -, _ and .")

TENANT = form(
    CLAIM_PATTERN,
    "a tenant consists of letters, digits, -, _ and ., and begins and ends with a letter or digit, as a UUID does; * means the alerts of "
    "all tenants, in a namespace of the platform",
)
TENANT_IMMUTABLE = Rule(
    message="the tenant of an EventSink cannot be changed; create another EventSink for the other tenant and delete this one",
    cel="self == oldSelf",
    reason="FieldValueForbidden",
)
DISPLAY_NAME = form(VISIBLE_TEXT_PATTERN, "write one line of text with visible characters")

SOURCE = form(DNS_LABEL, "the name of a source consists of lower-case letters, digits and -, such as alertmanager")
NAMESPACE_GLOB = form(
    NAMESPACE_GLOB_PATTERN,
    "write the name of a namespace, in lower case; * matches any characters, as in shop-*",
)
MATCHER = one_form_of(
    [(MATCHER_PATTERN, True), (_TWO_OPERATORS_PATTERN, True), (_OTHER_QUOTES_PATTERN, True), (_UNQUOTED_PATTERN, True)],
    'write matchers as name="value", name!="value", name=~"pattern" or name!~"pattern", with double quotation marks, and commas between several',
)
MATCHER_OPERATOR = one_form_of(
    [(_TWO_OPERATORS_PATTERN, False)],
    'write one of the operators =, !=, =~ and !~, and double quotation marks around the value, such as severity="critical"',
)
MATCHER_QUOTES = one_form_of(
    [(_OTHER_QUOTES_PATTERN, False)],
    'write double quotation marks around the value, such as severity="critical"; others would be a part of the value',
)
MATCHER_UNQUOTED = one_form_of(
    [(MATCHER_PATTERN, True), (_UNQUOTED_PATTERN, False)],
    "write double quotation marks around a value with spaces, commas, quotation marks or any of {}!=~\\, "
    'and commas between several matchers, such as severity="critical",team="a"',
)
UNIQUE_ENTRIES = unique("duplicate entry, remove one")

DURATION = duration_form()
REPEAT_INTERVAL = within("1m", "30d", "repeatInterval must be from 1m to 30d")
MAX_AGE = within("1m", "30d", "maxAge must be from 1m to 30d")
