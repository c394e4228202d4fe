"""transformers' processors, imported where torchvision may be the empty stand-in.

transformers compares versions of it while it is imported; the stand-in has none.
"""

import torchvision

if not hasattr(torchvision, "__version__"):
    torchvision.__version__ = "0"

from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil as GotOcr2ImageProcessorPil,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil as Idefics3ImageProcessorPil,
)
from transformers.models.idefics3.processing_idefics3 import (
    Idefics3Processor as Idefics3Processor,
)
from transformers.models.internvl.processing_internvl import (
    InternVLProcessor as InternVLProcessor,
)
from transformers.models.llava.image_processing_pil_llava import (
    LlavaImageProcessorPil as LlavaImageProcessorPil,
)
from transformers.models.llava.processing_llava import (
    LlavaProcessor as LlavaProcessor,
)
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil as LlavaNextImageProcessorPil,
)
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape as get_anyres_image_grid_shape,
)
from transformers.models.llava_next.modeling_llava_next import (
    unpad_image as unpad_image,
)
from transformers.models.llava_next.processing_llava_next import (
    LlavaNextProcessor as LlavaNextProcessor,
)
from transformers.models.siglip.image_processing_pil_siglip import (
    SiglipImageProcessorPil as SiglipImageProcessorPil,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import (
    SmolVLMImageProcessorPil as SmolVLMImageProcessorPil,
)
