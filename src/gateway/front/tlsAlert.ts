/** TLS alerts that the gateway sends before it has a TLS session (RFC 8446, 6). */

const descriptions = {
  handshake_failure: 40,
  decode_error: 50,
  internal_error: 80,
  missing_extension: 109,
  unrecognized_name: 112
}

export type AlertName = keyof typeof descriptions

/** A record with one fatal alert, in plaintext, as a client of every TLS version reads it in answer to its ClientHello. */
export const fatalAlert = (name: AlertName): Buffer => Buffer.of(21, 3, 3, 0, 2, 2, descriptions[name])
