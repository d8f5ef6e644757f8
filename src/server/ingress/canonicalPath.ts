/** Checks that a path has only one form, which a proxy's path rules also see. Pure. */

/**
 * Reason why the path of a request target is not canonical; undefined if it is. A proxy that decodes, merges or resolves a
 * path differently from the router would apply its rules to another path.
 */
export const nonCanonicalReason = (target: string): string | undefined => {
  const [path = ""] = target.split("?", 1)
  if (path.includes("//") || path.length > 1 && path.endsWith("/")) return "an empty segment"
  if (/\/\.{1,2}(?:\/|$)/u.test(path)) return "a segment `.` or `..`"
  if (/[^\w\-.~!$&'()*+,=:@%/]/u.test(path)) return "a character that must be percent-encoded"
  if (/%(?![\dA-Fa-f]{2})/u.test(path)) return "a percent sign that is not percent-encoded"
  const encoded = path.match(/%[\dA-Fa-f]{2}/gu) ?? []
  const isNeedless = encoded.some((text) =>
    /[\w\-.~/\\]/u.test(String.fromCharCode(Number.parseInt(text.slice(1), 16)))
  )
  return isNeedless ? "a letter, digit, `-`, `.`, `_`, `~`, `/` or `\\` that is percent-encoded" : undefined
}
