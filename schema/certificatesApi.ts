/** Certificates as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, changed, deleted, list, says, Validation } from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import { HostNameFromInput } from "./ids.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const domain = { domain: HostNameFromInput }

export class CertificatesGroup extends HttpApiGroup.make("certificates").add(
  list("/api/certificates", Resource.Certificate, "List certificates"),
  HttpApiEndpoint.get("get", "/api/certificates/:domain", {
    params: domain,
    success: Resource.Certificate,
    error: [Problem.CertificateNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a certificate", "Without its private key.")),
  HttpApiEndpoint.put("put", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    payload: Resource.CertificatePut,
    success: changed(Resource.Certificate, "ChangedCertificate"),
    error: [Problem.CertificateRejected, Problem.StoreUnavailable]
  }).annotateMerge(
    says("operate", "Store a certificate", "Replaces the one of this domain, if there is one; 200 either way.")
  ),
  HttpApiEndpoint.delete("remove", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    success: deleted,
    error: [Problem.CertificateNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a certificate"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Certificates" })) {}
