/** Names the reason why a connection failed or ended, for a program and for a person. Pure. */

/** Stable codes. `certificate-…`: of the server, by TLS. `connection-lost`: there was a connection. */
export type ConnectionProblem =
  | "name-not-resolved"
  | "connection-refused"
  | "unreachable"
  | "certificate-untrusted"
  | "certificate-name-mismatch"
  | "certificate-expired"
  | "tls-failed"
  | "upgrade-rejected"
  | "not-control"
  | "no-answer"
  | "key-rejected"
  | "key-unreadable"
  | "connection-lost"
  | "closed"

export interface ConnectionFailure {
  readonly problem: ConnectionProblem
  /** One sentence without a full stop. */
  readonly reason: string
}

interface Rule {
  /** Matched with the code and the message of the error. */
  readonly matches: RegExp
  readonly problem: ConnectionProblem
  readonly text: (host: string) => string
}

/** Codes of the operating system (errno), of OpenSSL (X509_V_ERR_…) and of Node's TLS. The first match counts. */
const rules: ReadonlyArray<Rule> = [
  {
    matches: /^(?:ENOTFOUND|EAI_)/u,
    problem: "name-not-resolved",
    text: (host) => `the name ${host} does not resolve; check the URL and the DNS of this machine`
  },
  {
    matches: /^ECONNREFUSED/u,
    problem: "connection-refused",
    text: (host) => `no server accepts connections on ${host}; check the port and that Control runs`
  },
  {
    matches: /^(?:EHOSTUNREACH|ENETUNREACH|ENETDOWN|EHOSTDOWN|ETIMEDOUT|EADDRNOTAVAIL|EACCES|EPERM)/u,
    problem: "unreachable",
    text: (host) => `${host} cannot be reached from this machine; check routes and firewalls`
  },
  {
    matches: /^CERT_HAS_EXPIRED/u,
    problem: "certificate-expired",
    text: (host) => `the certificate of ${host} has expired; renew it on the server`
  },
  {
    matches: /^CERT_NOT_YET_VALID/u,
    problem: "certificate-expired",
    text: (host) => `the certificate of ${host} is not valid yet; check the clock of this machine`
  },
  {
    matches: /^ERR_TLS_CERT_ALTNAME/u,
    problem: "certificate-name-mismatch",
    text: (host) => `the certificate of ${host} is for other names; use one of its names in the URL`
  },
  {
    matches: /SELF_SIGNED|UNABLE_TO_(?:VERIFY|GET)|^CERT_/u,
    problem: "certificate-untrusted",
    text: (host) =>
      `the certificate of ${host} is not trusted; set NODE_EXTRA_CA_CERTS=FILE to the certificate (PEM) of its issuer`
  },
  {
    matches: /^(?:EPROTO|ERR_SSL|ERR_TLS|ERR_OSSL)/u,
    problem: "tls-failed",
    text: (host) => `TLS with ${host} failed; use ws:// if the port is plaintext`
  },
  {
    matches: /^(?:HPE_|ERR_HTTP|WS_ERR)|Unexpected server response|subprotocol|Sec-WebSocket/u,
    problem: "not-control",
    text: (host) => `the server on ${host} does not speak control.v1; check the URL, and wss:// if the port uses TLS`
  }
]

/** The failure of a connection to `url` that was never open. `error` is that of the socket, if it reported one. */
export const describeConnectFailure = (url: string, error: Error | undefined): ConnectionFailure => {
  const { host } = new URL(url)
  if (error === undefined)
    return { problem: "no-answer", reason: `${host} closed the connection without an answer; check the URL` }
  const code = "code" in error && typeof error.code === "string" ? error.code : ""
  const rule = rules.find(({ matches }) => matches.test(code === "" ? error.message : code))
  if (rule !== undefined) return { problem: rule.problem, reason: rule.text(host) }
  return { problem: "no-answer", reason: `${host} does not answer: ${error.message || code}` }
}

/** Sentences for closes without a reason. */
const closeTexts: Readonly<Record<number, string>> = {
  4400: "this client broke the protocol",
  4401: "Control rejected the API key: it is unknown or revoked, or belongs to the other type of client",
  4403: "the API key was revoked",
  4409: "a newer session of this client has replaced this one; check whether two programs share the API key",
  4410: "this client was deleted"
}

/** The end of a connection that was open. */
export const describeClose = (code: number, reason: string): ConnectionFailure => ({
  problem: code === 4401 ? "key-rejected" : code === 1006 ? "connection-lost" : "closed",
  reason: code === 4401 ? closeTexts[4401] ?? reason : reason || (closeTexts[code] ?? "")
})
