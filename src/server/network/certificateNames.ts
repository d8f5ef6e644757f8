/** Certificate names that cover a domain. Pure. */

/** The domain itself, and the wildcard in place of its first label (RFC 6125 section 6.4.3). */
export const namesCovering = (domain: string): ReadonlyArray<string> => {
  const dot = domain.indexOf(".")
  return dot === -1 || domain.startsWith("*.") ? [domain] : [domain, `*${domain.slice(dot)}`]
}
