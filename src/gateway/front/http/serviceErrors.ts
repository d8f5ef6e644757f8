/** Errors of connections to a service, as the answer to the visitor and the outcome for the tunnel. Pure. */
import { type RouteProblem, routeProblem } from "#gateway/Route.ts"
import { type FrontError, frontErrors } from "./errorPages.ts"

export interface ServiceFailure {
  readonly answer: FrontError
  /** Outcome of the connection attempt; undefined if the connection had been used before. */
  readonly outcome: "ok" | RouteProblem | undefined
}

/** `isReused` is true if the connection had served another request. */
export const serviceFailure = (error: NodeJS.ErrnoException, isReused: boolean): ServiceFailure => {
  const code = error.code ?? ""
  if (code.startsWith("HPE_")) return { answer: frontErrors.invalidAnswer, outcome: "ok" }
  if (isCertificateError(code)) return { answer: frontErrors.invalidCertificate, outcome: "target-unreachable" }
  if (isReset(error) && isReused) return { answer: frontErrors.closedEarly, outcome: undefined }
  // Node's error for an orderly end without a response.
  if (error.message === "socket hang up") return { answer: frontErrors.closedEarly, outcome: "ok" }
  const outcome = routeProblem(error)
  return {
    answer: outcome === "agent-unreachable" ? frontErrors.agentUnreachable : frontErrors.targetUnreachable,
    outcome
  }
}

/** The service has closed the connection. */
const isReset = ({ code }: NodeJS.ErrnoException): boolean => code === "ECONNRESET" || code === "EPIPE"

function isCertificateError(code: string): boolean {
  return code.startsWith("ERR_TLS_") || code.startsWith("ERR_SSL_") || code === "EPROTO" || certificateCodes.test(code)
}

/** Codes of OpenSSL's verification, as in Node's `tls` documentation. */
const certificateCodes = /CERT|^UNABLE_TO_|^CRL_|^HOSTNAME_MISMATCH$|^INVALID_(?:CA|PURPOSE)$|^PATH_LENGTH_EXCEEDED$/u

const idempotent = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"])

/**
 * Whether a request can be sent a second time: its kept connection ended before a byte of a response, its body has not
 * begun, and a second execution has the effect of one (RFC 9110, 9.2.2; RFC 9112, 9.3.1).
 */
export const canRetry = (
  error: NodeJS.ErrnoException,
  request: { readonly method: string; readonly isReused: boolean; readonly isBodyBegun: boolean }
): boolean => request.isReused && !request.isBodyBegun && isReset(error) && idempotent.has(request.method)
