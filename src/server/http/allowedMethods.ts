/** Finds the methods of a path, for the Allow header (RFC 9110 section 15.5.6). */
import { Api } from "#schema/api.ts"
import { HttpApi } from "effect/http-api"

interface Route {
  readonly method: string
  readonly path: RegExp
}

const documents = [
  "/",
  "/docs",
  "/docs/start.js",
  "/docs/swagger-ui.js",
  "/docs/swagger-ui.css",
  "/openapi.json",
  "/asyncapi.json"
]
const routes: Array<Route> = documents.map((path) => ({ method: "GET", path: pattern(path) }))

HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint }) => {
    routes.push({ method: endpoint.method, path: pattern(endpoint.path) })
  }
})

/** Methods of the path in this URL, with HEAD for each GET; empty for an unknown path. */
export const allowedMethods = (url: string): ReadonlyArray<string> => {
  const path = url.replace(/[?#].*$/su, "")
  const methods = routes.filter((route) => route.path.test(path)).map(({ method }) => method)
  return [...new Set(methods.flatMap((method) => method === "GET" ? ["GET", "HEAD"] : [method]))]
}

function pattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/:\w+/gu, "[^/]+")}$`, "u")
}
