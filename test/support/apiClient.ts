/** A thin HTTP client for tests that shows responses as they are on the wire. */
import { collectResponse } from "./collectOutput.ts"

export interface ApiResponse {
  readonly status: number
  readonly headers: Headers
  /** The parsed JSON, the text if it is not JSON, or undefined without a body. */
  // oxlint-disable-next-line typescript/no-explicit-any -- responses are checked field by field
  readonly body: any
}

export interface Api {
  get(path: string, headers?: Record<string, string>): Promise<ApiResponse>
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<ApiResponse>
  patch(path: string, body: unknown, headers?: Record<string, string>): Promise<ApiResponse>
  put(path: string, body: unknown, headers?: Record<string, string>): Promise<ApiResponse>
  delete(path: string, headers?: Record<string, string>): Promise<ApiResponse>
}

/** A client for the API at `baseUrl`. A string body is sent unchanged. Without a token no Authorization header is sent. */
export const api = (baseUrl: string, token?: string): Api => {
  const request =
    (method: string) =>
    async (path: string, body?: unknown, headers: Record<string, string> = {}): Promise<ApiResponse> => {
      const response = await fetch(new URL(path, baseUrl), {
        method,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
      })
      const text = await response.text()
      collectResponse(`${method} ${path}`, response.status, JSON.stringify([...response.headers]), text)
      return { status: response.status, headers: response.headers, body: text === "" ? undefined : parse(text) }
    }
  return {
    get: (path, headers) => request("GET")(path, undefined, headers),
    post: request("POST"),
    patch: request("PATCH"),
    put: request("PUT"),
    delete: (path, headers) => request("DELETE")(path, undefined, headers)
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
