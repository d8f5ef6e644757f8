/** A few lines around fetch: for tests, the demo and the benchmarks, which should see what is on the wire and nothing nicer. */

import { sawAnswer } from "./seen.ts"

export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** The parsed JSON, or the text when it is none; undefined when there is no body. */
  // oxlint-disable-next-line typescript/no-explicit-any -- what comes off the wire is looked at field by field
  readonly body: any
}

export interface Api {
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  patch(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>
  put(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>
  delete(path: string, headers?: Record<string, string>): Promise<Answer>
}

/** A body that is a string is sent as it is. Without a token none is sent. */
export const api = (baseUrl: string, token?: string): Api => {
  const ask =
    (method: string) => async (path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> => {
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
      sawAnswer(`${method} ${path}`, response.status, JSON.stringify([...response.headers]), text)
      return { status: response.status, headers: response.headers, body: text === "" ? undefined : parse(text) }
    }
  return {
    get: (path, headers) => ask("GET")(path, undefined, headers),
    post: ask("POST"),
    patch: ask("PATCH"),
    put: ask("PUT"),
    delete: (path, headers) => ask("DELETE")(path, undefined, headers)
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
