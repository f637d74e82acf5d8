# The image: the archive is uploaded and becomes an image.

variable "archive" {
  description = "Path of sallyport-VERSION-gcp.tar.gz; empty where image is given."
  type        = string
  default     = ""
}

variable "image_version" {
  description = "The image's version, such as 1.0.0. A new one is a new image."
  type        = string
  default     = "1.0.0"
}

variable "image" {
  description = "An image that is there already, as self link."
  type        = string
  default     = ""
}

variable "secure_boot_certificate" {
  description = "Path of the certificate, in DER, by which the image is signed for Secure Boot; empty for none."
  type        = string
  default     = ""
}

locals {
  upload = var.image == "" ? 1 : 0
  image  = var.image == "" ? one(google_compute_image.this[*].self_link) : var.image
}

resource "random_string" "suffix" {
  length  = 8
  special = false
  upper   = false
}

resource "google_storage_bucket" "this" {
  count                       = local.upload
  name                        = "${var.name}-${random_string.suffix.result}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
}

resource "google_storage_bucket_object" "this" {
  count  = local.upload
  bucket = google_storage_bucket.this[0].name
  name   = "${var.name}-${var.image_version}.tar.gz"
  source = var.archive
}

# An appliance that runs keeps its image when the next version is here.
resource "google_compute_image" "this" {
  count  = local.upload
  name   = "${var.name}-${replace(var.image_version, "/[^a-z0-9]/", "-")}"
  family = var.name

  raw_disk {
    source = "https://storage.googleapis.com/${google_storage_bucket.this[0].name}/${google_storage_bucket_object.this[0].name}"
  }

  dynamic "guest_os_features" {
    for_each = ["UEFI_COMPATIBLE", "GVNIC"]
    content {
      type = guest_os_features.value
    }
  }

  dynamic "shielded_instance_initial_state" {
    for_each = [for path in [var.secure_boot_certificate] : path if path != ""]
    content {
      dbs {
        content   = filebase64(shielded_instance_initial_state.value)
        file_type = "X509"
      }
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}
