"""What pydicom finds in DICOM files: a JSON line for each, in the order of the arguments."""

import hashlib
import json
import sys

import pydicom

pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE

for path in sys.argv[1:]:
    data = pydicom.dcmread(path)
    elements = {}
    for element in data:
        if element.keyword == "PixelData":
            continue
        value = element.value
        if isinstance(value, pydicom.multival.MultiValue):
            value = [float(v) if element.VR == "DS" else str(v) for v in value]
        elif element.VR in ("DS", "IS", "US") and value not in ("", None):
            value = float(value)
        else:
            value = str(value) if value is not None else ""
        elements[element.keyword or str(element.tag)] = value
    uids = [v for k, v in elements.items() if k.endswith("UID")]
    pixels = data.pixel_array
    print(json.dumps({
        "elements": elements,
        "transfer_syntax": data.file_meta.TransferSyntaxUID.name,
        "class": data.SOPClassUID.name,
        "meta_agrees": data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID,
        "uids_valid": all(pydicom.uid.UID(u).is_valid for u in uids),
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "sha256": hashlib.sha256(pixels.astype("<u2").tobytes()).hexdigest(),
    }))
