/** Certificates of tests, whose keys are secrets. */
import {
  type CertificateOptions,
  issueCertificate as issue,
  type IssuedCertificate
} from "#conformance/issueCertificate.ts"
import { secretScanner } from "./SecretScanner.ts"

export type { CertificateOptions, IssuedCertificate }

/** Creates a certificate and its key, and adds the key to the secret scanner. */
export const issueCertificate = (options: CertificateOptions): IssuedCertificate => {
  const issued = issue(options)
  secretScanner.addSecret("private key of a certificate", issued.privateKey)
  return issued
}
