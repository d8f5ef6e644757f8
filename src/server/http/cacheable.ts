/** Responses that browsers and proxies keep: an ETag for revalidation and gzip, both made once. */
import { createHash } from "node:crypto"
import { gzipSync } from "node:zlib"
import { Effect } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"

/**
 * A handler that answers 304 to a caller who has this text already (RFC 9110 section 13.1.2). `no-cache` makes each caller
 * ask again, so that an upgrade is seen at once.
 */
export function cacheable(text: string, contentType: string) {
  const plain = new TextEncoder().encode(text)
  const compressed = gzipSync(plain, { level: 9 })
  const etag = `W/"${createHash("sha256").update(plain).digest("base64url").slice(0, 22)}"`
  const headers = { etag, "cache-control": "public, no-cache", vary: "accept-encoding" }
  return Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
    if (matches(request.headers["if-none-match"], etag)) return HttpServerResponse.empty({ status: 304, headers })
    return acceptsGzip(request.headers["accept-encoding"])
      ? HttpServerResponse.uint8Array(compressed, { contentType, headers: { ...headers, "content-encoding": "gzip" } })
      : HttpServerResponse.uint8Array(plain, { contentType, headers })
  })
}

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  const opaque = (tag: string) => tag.trim().replace(/^W\//u, "")
  return (ifNoneMatch ?? "").split(",").some((tag) => opaque(tag) === opaque(etag) || tag.trim() === "*")
}

/** `gzip;q=0` forbids gzip (RFC 9110 section 12.5.3). */
function acceptsGzip(acceptEncoding: string | undefined): boolean {
  return (acceptEncoding ?? "").split(",").some((coding) => {
    const [name, quality = "q=1"] = coding.split(";").map((part) => part.trim().toLowerCase())
    return name === "gzip" && Number(quality.replace(/^q=/u, "")) > 0
  })
}
