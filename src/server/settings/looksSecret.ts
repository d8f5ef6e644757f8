/** Whether a value that was refused may be shown: a secret is easily put into the wrong variable. */

/**
 * A PEM, a URL with a password, one of Control's own keys, a master key, or a long run of the characters that tokens consist
 * of with a digit among them. Numbers, durations, addresses, names and paths are none of these; one that is goes unquoted.
 */
export const looksSecret = (text: string): boolean =>
  /-----BEGIN|:\/\/[^/\s]*@|ctl_(?:adm|agt|gw)_|^[A-Za-z0-9+/]{43}=$/u.test(text) ||
  (text.match(/[\w+=-]{20,}/gu) ?? []).some((run) => /\d/u.test(run))
