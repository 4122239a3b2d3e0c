/** The only way by which HTML made from text enters the page. */
import DOMPurify from "dompurify";

const TAGS = [
  "a b blockquote br code del em h3 h4 h5 h6 hr i ins kbd li mark ol p pre s small span strong",
  "sub sup table tbody td th thead tr u ul",
].flatMap((line) => line.split(" "));
const PLAIN_ATTRIBUTES = ["align", "class", "data-depth", "data-language", "start"];

// Classes could dress text up as a part of the page; only those of the highlighter pass.
DOMPurify.addHook("uponSanitizeAttribute", (_node, data) => {
  if (data.attrName !== "class") return;
  data.attrValue = data.attrValue
    .split(/\s+/)
    .filter((name) => name.startsWith("hljs-") || name.endsWith("_"))
    .join(" ");
  data.keepAttr = data.attrValue !== "";
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
  // The address shows before it is followed, whatever the text claims.
  node.setAttribute("title", node.getAttribute("href")!);
});

/** A fragment with nothing in it that runs, loads or imitates. */
export function sanitize(html: string): DocumentFragment {
  return DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: [...PLAIN_ATTRIBUTES, "href"],
    // Only href holds an address; the others need not look like one.
    ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    RETURN_DOM_FRAGMENT: true,
  });
}
