/** Detection of secrets that were put into the wrong variable. */

/**
 * Whether an error must not quote this text: a PEM, a URL with a password, an API key, a master key, or at least 20 token
 * characters in a row with a digit among them. Numbers, durations, addresses, names and most paths are quoted.
 */
export const looksSecret = (text: string): boolean =>
  /-----BEGIN|:\/\/[^/\s]*@|ctl_(?:adm|agt|gw)_|^[A-Za-z0-9+/]{43}=$/u.test(text) ||
  (text.match(/[\w+=-]{20,}/gu) ?? []).some((run) => /\d/u.test(run))
