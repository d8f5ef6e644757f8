/** Answers of the gateway itself: a sentence as HTML, JSON or plain text. */
import { STATUS_CODES } from "node:http"

export interface FrontError {
  readonly status: number
  /** One sentence for the visitor, without inner addresses. */
  readonly sentence: string
  readonly headers?: ReadonlyArray<string>
  /** Whether the connection must end, because its bytes cannot be understood any more. */
  readonly close?: boolean
}

const retryAfter = ["Retry-After", "1"]
const allow = ["Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]

export const frontErrors = {
  badRequest: { status: 400, sentence: "The request is not valid HTTP.", close: true },
  badHost: { status: 400, sentence: "The request must have exactly one valid Host header.", close: true },
  badTarget: { status: 400, sentence: "The request target is not valid or names another host.", close: true },
  badFraming: { status: 400, sentence: "The length of the request body is ambiguous.", close: true },
  unknownName: { status: 404, sentence: "No tunnel serves this name." },
  methodNotAllowed: { status: 405, sentence: "The gateway does not forward this method.", headers: allow, close: true },
  bodyTimeout: { status: 408, sentence: "The request body did not arrive in time.", close: true },
  headersTimeout: { status: 408, sentence: "The request did not arrive in time.", close: true },
  bodyTooLarge: { status: 413, sentence: "The request body is larger than this gateway allows.", close: true },
  misdirected: { status: 421, sentence: "This connection was opened for another name.", close: true },
  visitorBusy: { status: 429, sentence: "This address has too many requests at the moment.", headers: retryAfter },
  headersTooLarge: { status: 431, sentence: "The request headers are larger than this gateway allows.", close: true },
  unsupportedCoding: { status: 501, sentence: "The gateway does not support this transfer coding.", close: true },
  unsupportedProtocol: { status: 501, sentence: "The gateway does not support this protocol." },
  agentUnreachable: { status: 502, sentence: "The gateway cannot reach the agent of this tunnel." },
  invalidAnswer: { status: 502, sentence: "The service behind this tunnel sent an invalid answer." },
  closedEarly: { status: 502, sentence: "The service behind this tunnel closed the connection without an answer." },
  invalidCertificate: { status: 502, sentence: "The certificate of the service behind this tunnel is not valid." },
  targetUnreachable: {
    status: 503,
    sentence: "The agent of this tunnel cannot reach the service.",
    headers: retryAfter
  },
  tunnelBusy: { status: 503, sentence: "This tunnel has too many requests at the moment.", headers: retryAfter },
  gatewayBusy: { status: 503, sentence: "The gateway has too many requests at the moment.", headers: retryAfter },
  noAnswer: { status: 504, sentence: "The service behind this tunnel did not answer in time." }
} satisfies Record<string, FrontError>

export interface Page {
  readonly headers: ReadonlyArray<string>
  readonly body: Buffer
}

/** The page of an error in the first type of the `Accept` header that the gateway has; plain text otherwise. */
export const errorPage = (error: FrontError, accept: string | undefined): Page => {
  const { headers = [], sentence, status } = error
  const title = `${status} ${STATUS_CODES[status] ?? "Error"}`
  const type = preferredType(accept)
  const text = type === "text/html"
    ? htmlPage(title, sentence)
    : type === "application/json"
    ? `${JSON.stringify({ status, title: STATUS_CODES[status], detail: sentence })}\n`
    : `${title}\n${sentence}\n`
  return page(`${type}; charset=utf-8`, text, headers)
}

/** A body with its headers, which no cache keeps. */
export const page = (contentType: string, text: string, headers: ReadonlyArray<string> = []): Page => {
  const body = Buffer.from(text)
  return {
    headers: [
      "Content-Type",
      contentType,
      "Content-Length",
      String(body.length),
      "Cache-Control",
      "no-store",
      "X-Content-Type-Options",
      "nosniff",
      ...headers
    ],
    body
  }
}

/** A complete HTTP/1.1 response for a connection whose request could not be parsed. */
export const rawErrorResponse = (error: FrontError): Buffer => {
  const { body, headers } = errorPage(error, undefined)
  let head = `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\nConnection: close\r\n`
  for (let at = 0; at < headers.length; at += 2) head += `${headers[at]}: ${headers[at + 1]}\r\n`
  return Buffer.concat([Buffer.from(`${head}\r\n`, "latin1"), body])
}

/** The first type that the gateway has, in the order of the header. Weights (`q=`) are ignored. */
function preferredType(accept = ""): "text/html" | "application/json" | "text/plain" {
  for (const part of accept.toLowerCase().split(",", 20)) {
    const type = part.split(";", 1)[0]?.trim()
    if (type === "text/html" || type === "application/json" || type === "text/plain") return type
    if (type === "application/xhtml+xml") return "text/html"
    if (type === "application/problem+json" || type === "application/*") return "application/json"
  }
  return "text/plain"
}

function htmlPage(title: string, sentence: string): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title>
<style>:root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto;padding:0 1rem}</style>
</head>
<body><h1>${title}</h1><p>${sentence}</p></body>
</html>
`
}
