/** Looks at the public side of a name as a visitor does: DNS, ports, TLS and one HTTP request. */
import { parseTime } from "#processes/clock.ts"
import { lookup } from "node:dns/promises"
import { request as httpRequest } from "node:http"
import { request as httpsRequest } from "node:https"
import { connect } from "node:net"
import { connect as connectTls, type TLSSocket } from "node:tls"
import type { CertificateFacts, HttpFacts, PortFacts } from "./links.ts"

/** Time for one step. */
const timeoutMillis = 10_000

/** Milliseconds of a monotonic clock. */
export type Now = () => number

const reasonOf = (error: unknown): string =>
  error instanceof Error
    ? "code" in error ? `${reasons[String(error.code)] ?? error.message}` : error.message
    : String(error)

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ETIMEDOUT: "no answer",
  ENOTFOUND: "the name does not exist",
  EAI_AGAIN: "the DNS server does not answer",
  EHOSTUNREACH: "no route",
  ENETUNREACH: "no route to the network"
}

/** Addresses of a name, by the machine's resolver, which reads `/etc/hosts` too. */
export const probeDns = async (
  name: string
): Promise<{ readonly addresses: ReadonlyArray<string>; readonly problem: string | undefined }> => {
  try {
    const found = await lookup(name, { all: true })
    return { addresses: [...new Set(found.map(({ address }) => address))], problem: undefined }
  } catch (error) {
    return { addresses: [], problem: reasonOf(error) }
  }
}

export const probePort = (address: string, port: number, now: Now): Promise<PortFacts> =>
  new Promise((resolve) => {
    const started = now()
    const socket = connect({ host: address, port })
    const finish = (problem: string | undefined) => {
      socket.destroy()
      resolve({ address, port, problem, millis: Math.round(now() - started) })
    }
    socket.setTimeout(timeoutMillis, () => finish("no answer"))
    socket.once("connect", () => finish(undefined)).once("error", (error) => finish(reasonOf(error)))
  })

/** Verifies the certificate with the machine's roots, which `NODE_EXTRA_CA_CERTS` extends. */
export const probeCertificate = (
  address: string,
  port: number,
  serverName: string,
  wall: number
): Promise<Pick<CertificateFacts, "shown" | "problem">> =>
  new Promise((resolve) => {
    const socket = connectTls({ host: address, port, servername: serverName, rejectUnauthorized: false })
    const finish = (facts: Pick<CertificateFacts, "shown" | "problem">) => {
      socket.destroy()
      resolve(facts)
    }
    socket.setTimeout(timeoutMillis, () => finish({ shown: undefined, problem: "no answer" }))
    socket.once("error", (error) => finish({ shown: undefined, problem: reasonOf(error) }))
    socket.once("secureConnect", () => finish({ shown: shownBy(socket, wall), problem: undefined }))
  })

function shownBy(socket: TLSSocket, wall: number): CertificateFacts["shown"] {
  const { issuer, valid_to: expiry } = socket.getPeerCertificate()
  const problem = socket.authorized ? undefined : certificateProblem(socket.authorizationError)
  return {
    issuer: String(issuer?.O ?? issuer?.CN ?? "an unknown issuer"),
    expiresInDays: Math.floor((parseTime(expiry) - wall) / 86_400_000),
    problem
  }
}

function certificateProblem(error: Error | string | undefined): string {
  const code = typeof error === "string" ? error : error instanceof Error && "code" in error ? String(error.code) : ""
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return "the certificate has expired"
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return "the certificate is for other names"
    case "CERT_NOT_YET_VALID":
      return "the certificate is not valid yet"
    default:
      return `the certificate is not trusted (${code}); set NODE_EXTRA_CA_CERTS for an issuer of your own`
  }
}

/** Redirects are not followed: a redirect of the service is an answer. */
export const probeHttp = (
  { address, isSecure, name, port }: {
    readonly address: string
    readonly port: number
    readonly name: string
    readonly isSecure: boolean
  },
  now: Now
): Promise<HttpFacts> =>
  new Promise((resolve) => {
    const started = now()
    const url = `${isSecure ? "https" : "http"}://${name}/`
    const send = isSecure ? httpsRequest : httpRequest
    const request = send({
      host: address,
      port,
      servername: name,
      headers: { host: name, "user-agent": "control-check" },
      path: "/",
      timeout: timeoutMillis,
      agent: false
    })
    const finish = (status: number | undefined, problem: string | undefined) => {
      request.destroy()
      resolve({ url, status, problem, millis: Math.round(now() - started) })
    }
    request.once("response", ({ statusCode }) => finish(statusCode, undefined))
    request.once("timeout", () => finish(undefined, "no answer"))
    request.once("error", (error) => finish(undefined, reasonOf(error)))
    request.end()
  })
