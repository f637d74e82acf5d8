# The image: the disk is uploaded, imported as a snapshot and registered as an AMI.

variable "raw" {
  description = "Path of sallyport-VERSION-aws.raw; empty where image_id is given."
  type        = string
  default     = ""
}

variable "image_version" {
  description = "The image's version, such as 1.0.0. A new one is a new AMI."
  type        = string
  default     = "1.0.0"
}

variable "image_id" {
  description = "An AMI that is there already."
  type        = string
  default     = ""
}

variable "uefi_data" {
  description = "Path of a UEFI variable store with Secure Boot keys of your own, as aws-uefivars makes it; empty for none."
  type        = string
  default     = ""
}

locals {
  upload   = var.image_id == "" ? 1 : 0
  image_id = var.image_id == "" ? one(aws_ami.this[*].id) : var.image_id
}

resource "aws_s3_bucket" "this" {
  count         = local.upload
  bucket_prefix = "${var.name}-"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "this" {
  count                   = local.upload
  bucket                  = aws_s3_bucket.this[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_object" "this" {
  count  = local.upload
  bucket = aws_s3_bucket.this[0].id
  key    = "${var.name}-${var.image_version}.raw"
  source = var.raw
}

data "aws_caller_identity" "this" {}

# The import runs as this role, which reads that bucket and makes snapshots.
resource "aws_iam_role" "import" {
  count       = local.upload
  name_prefix = "${var.name}-import-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vmie.amazonaws.com" }
      Condition = { StringEquals = {
        "sts:ExternalId"    = "vmimport"
        "aws:SourceAccount" = data.aws_caller_identity.this.account_id
      } }
    }]
  })
}

resource "aws_iam_role_policy" "import" {
  count = local.upload
  name  = "import"
  role  = aws_iam_role.import[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"], Resource = [aws_s3_bucket.this[0].arn, "${aws_s3_bucket.this[0].arn}/*"] },
      { Effect = "Allow", Action = ["ec2:ModifySnapshotAttribute", "ec2:CopySnapshot", "ec2:RegisterImage", "ec2:Describe*"], Resource = "*" },
    ]
  })
}

resource "aws_ebs_snapshot_import" "this" {
  count     = local.upload
  role_name = aws_iam_role.import[0].name

  disk_container {
    format = "RAW"
    user_bucket {
      s3_bucket = aws_s3_bucket.this[0].id
      s3_key    = aws_s3_object.this[0].key
    }
  }

  lifecycle {
    create_before_destroy = true
    replace_triggered_by  = [aws_s3_object.this[0].key]
  }

  depends_on = [aws_iam_role_policy.import]
}

# An appliance that runs keeps its image when the next version is here.
resource "aws_ami" "this" {
  count               = local.upload
  name                = "${var.name}-${var.image_version}"
  architecture        = "x86_64"
  virtualization_type = "hvm"
  boot_mode           = "uefi"
  ena_support         = true
  imds_support        = "v2.0"
  root_device_name    = "/dev/xvda"
  tpm_support         = var.uefi_data == "" ? null : "v2.0"
  uefi_data           = var.uefi_data == "" ? null : file(var.uefi_data)

  ebs_block_device {
    device_name = "/dev/xvda"
    snapshot_id = aws_ebs_snapshot_import.this[0].id
    volume_type = "gp3"
  }

  lifecycle {
    create_before_destroy = true
  }
}
